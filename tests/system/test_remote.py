from __future__ import annotations

import pytest

from rtseg.errors import MissingExtra
from rtseg.system.remote import open_url


@pytest.mark.parametrize(
    ("url", "extra"), [("s3://b/a", "s3"), ("gs://b/a", "gcs"), ("GS://b/a", "gcs"), ("abfs://b/a", "remote")]
)
def test_a_missing_package_of_a_scheme_is_named_with_its_extra(
    url: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = pytest.importorskip("fsspec.core", reason="needs fsspec: pip install 'rtseg[remote]'")

    def missing(*arguments: object, **options: object) -> None:
        raise ImportError("Install the package")

    monkeypatch.setattr(core, "url_to_fs", missing)
    with pytest.raises(MissingExtra, match=rf"Install the package\): pip install 'rtseg\[{extra}\]'"):
        open_url(url)
