"""A contract for import-linter: a private module is imported only inside its own folder."""

from __future__ import annotations

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, output

__all__ = ["PrivateModules"]


class PrivateModules(Contract):
    """No module imports ``folder/_file.py`` from outside of ``folder``."""

    type_name = "private_modules"

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Find every import of a private module from outside of its folder."""
        found = sorted(
            (importer, module)
            for module in graph.modules
            if (folder := _folder_of_private(module)) is not None
            for importer in graph.find_modules_that_directly_import(module)
            if importer != folder and not importer.startswith(f"{folder}.")
        )
        return ContractCheck(kept=not found, metadata={"found": found})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print one line for each such import."""
        for importer, module in check.metadata["found"]:
            output.print_error(f"{importer} imports {module}, which is private to {_folder_of_private(module)}")


def _folder_of_private(module: str) -> str | None:
    """The package that owns a private module; None for a public one."""
    parts = module.split(".")
    for place, part in enumerate(parts):
        if part.startswith("_") and not part.startswith("__"):
            return ".".join(parts[:place])
    return None
