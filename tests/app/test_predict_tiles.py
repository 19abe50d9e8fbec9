"""Large images in tiles."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from rtseg.app.options import PredictOptions
from rtseg.app.predict import PredictRun
from rtseg.errors import OptionError, SourceError


def predict(image: Path, output: Path, model: Path, **options: int) -> None:
    with PredictRun(PredictOptions((image,), output, str(model), precision="fp32", only=("masks",), **options)) as run:  # type: ignore[arg-type]
        run.run()


@pytest.fixture
def image() -> np.ndarray:
    noise = np.random.default_rng(3).integers(0, 256, (150, 230, 3), np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 3) * 1, np.uint8)


def test_tiles_cover_an_image(image: np.ndarray, icnet_file: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), image)
    predict(tmp_path / "a.png", tmp_path / "out", icnet_file, tiles=96, overlap=32)
    mask = cv2.imread(str(tmp_path / "out/masks/a.png"), cv2.IMREAD_UNCHANGED)
    assert mask is not None
    assert mask.shape[:2] == (150, 230)


@pytest.mark.filterwarnings("ignore")  # of rasterio, about its own dependencies
def test_a_geotiff_keeps_its_georeference_and_gets_the_same_labels(
    image: np.ndarray, icnet_file: Path, tmp_path: Path
) -> None:
    rasterio = pytest.importorskip("rasterio")
    crs, transform = "EPSG:32633", rasterio.Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000)
    settings = {"driver": "GTiff", "height": 150, "width": 230, "count": 3, "dtype": "uint8"}
    with rasterio.open(tmp_path / "a.tif", "w", crs=crs, transform=transform, **settings) as file:
        file.write(np.moveaxis(image[..., ::-1], -1, 0))
    cv2.imwrite(str(tmp_path / "a.png"), image)
    for name in ("a.tif", "a.png"):
        predict(tmp_path / name, tmp_path / name[2:], icnet_file, tiles=96, overlap=32)
    with rasterio.open(tmp_path / "tif/masks/a.tif") as written:
        assert (written.crs, written.transform, written.nodata) == (rasterio.CRS.from_string(crs), transform, 255)
        labels = written.read(1)
        assert len(written.colormap(1)) == 256
    with rasterio.open(tmp_path / "png/masks/a.png") as png:
        assert np.array_equal(labels, png.read(1))
    assert [path.name for path in (tmp_path / "tif").rglob("*.*")] == ["a.tif"]


@pytest.mark.filterwarnings("ignore")
def test_a_geotiff_of_16_bits_is_refused_with_the_way_out(icnet_file: Path, tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    settings = {"driver": "GTiff", "height": 64, "width": 64, "count": 1, "dtype": "uint16"}
    with rasterio.open(tmp_path / "a.tif", "w", **settings) as file:
        file.write(np.zeros((1, 64, 64), np.uint16))
    with pytest.raises(SourceError, match="uint16: convert it to 8 bits"):
        predict(tmp_path / "a.tif", tmp_path / "out", icnet_file, tiles=64, overlap=0)


@pytest.mark.parametrize("wrong", [{"tiles": 8}, {"tiles": 64, "overlap": 40}, {"tiles": 64, "overlap": -1}])
def test_wrong_tiles_are_refused(wrong: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(OptionError):
        PredictOptions((tmp_path,), tmp_path, **wrong)  # type: ignore[arg-type]
