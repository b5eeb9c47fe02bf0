from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from scanpy_sct.settings import settings

DATA_VARIABLE = "SCANPY_SCT_DATA_DIR"

_COMMIT = "85df7411b987a7dec3feff9718b869a7a82091ec"
_URL = f"https://raw.githubusercontent.com/almaan/her2st/{_COMMIT}/"
_COUNTS = "data/ST-cnts/{}.tsv.gz"
_SPOTS = "data/ST-spotfiles/{}_selection.tsv"
_LABELS = "data/ST-pat/lbl/{}_labeled_coordinates.tsv"
# SHA-256 of every file that is offered.
_HASHES = {
    "data/ST-cnts/B1.tsv.gz": "97b3abf2676c596ac7dd53829780005724cab62a6f676697516006481a443f74",
    "data/ST-cnts/G2.tsv.gz": "9d51a5ed85bdf60069dcf51beeffba4e90e35e8630ec3b707a2453ffdd608e3b",
    "data/ST-cnts/H1.tsv.gz": "90b391782535f38c9ab20fe8b38f44ebbfdad2201075a677a198cbef12c29b07",
    "data/ST-spotfiles/B1_selection.tsv": "7ea9963677db80199db928d763b0b34ea1015fb7452e85ac7b21d42ee15c3875",
    "data/ST-spotfiles/G2_selection.tsv": "abae30bb6f434cb2aae34b8ef56da6b613c840d48c49279d55f4600ad496245c",
    "data/ST-spotfiles/H1_selection.tsv": "fc9cc5bad3a1e26e48f435696259df38b500042a9565486c15fd37ab7d8f9ed6",
    "data/ST-pat/lbl/B1_labeled_coordinates.tsv": "f7050caa71c47a4c95fcca2a7f29560d387310877b1c9e4a54f841059db837ee",
    "data/ST-pat/lbl/G2_labeled_coordinates.tsv": "8466275647ad125569ee94d099cc7b78c15028968ba1dd267a85a81c001a16ff",
    "data/ST-pat/lbl/H1_labeled_coordinates.tsv": "b65cbc99ed7a01281bc2eb87be87b902312e47ca91bc1f00ff351489b78434c3",
}
_SECTIONS = ("B1", "G2", "H1")


def her2st(section: str = "G2") -> AnnData:
    """Return one section of a HER2-positive breast tumour (Spatial Transcriptomics), with the pathologist's regions.

    The files are downloaded from the authors' repository (https://github.com/almaan/her2st) at a fixed commit,
    verified by SHA-256 and kept in `settings.cache_dir`. If the environment variable `SCANPY_SCT_DATA_DIR` names a
    folder with these files (`her2st_raw/data/...`), they are read from there, without internet access.

    Spots are those that the authors selected as covered by tissue and that have counts. Regions are matched by the
    rounded array coordinates; 8 labels of G2 have none and are left out.

    Parameters
    ----------
    section
        `"B1"` (295 spots), `"G2"` (467) or `"H1"` (613): the letter is the patient, the number the section.

    Returns
    -------
    Spots x genes:

    `.X`
        Counts, CSR float32.
    `.var_names`, `.obs_names`
        Gene symbols, and array coordinates such as `10x15` (column x row).
    `.obs["array_row"]`, `.obs["array_col"]`
        Coordinates in the array of spots, integers; neighbouring spots are 200 micrometres apart.
    `.obs["region"]`
        The pathologist's annotation, categorical; `undetermined` if not certain, `unlabelled` if there is none.
    `.obs["sample"]`
        The section, categorical.
    `.obsm["spatial"]`
        x and y in pixels of the full image, float64, (spots, 2). The image itself is not loaded; plot with
        `sq.pl.spatial_scatter(adata, color="region", shape=None)`.

    Raises
    ------
    ValueError
        The section is not available, or a file differs from the published one.
    ConnectionError
        The files are not in the cache and cannot be downloaded.

    Notes
    -----
    Andersson et al., Spatial deconvolution of HER2-positive breast cancer delineates tumor-associated cell type
    interactions, Nature Communications 12, 6012 (2021), CC BY 4.0; please cite it. The repository has no licence, so
    the files are always downloaded from the authors and not redistributed.
    """
    if section not in _SECTIONS:
        msg = f"section={section!r} is not available; available: {', '.join(map(repr, _SECTIONS))}."
        raise ValueError(msg)
    counts = pd.read_csv(_find_file(_COUNTS.format(section)), sep="\t", index_col=0, low_memory=False)
    spots = _read_spots(_find_file(_SPOTS.format(section)))
    regions = _read_regions(_find_file(_LABELS.format(section)))

    names = counts.index[counts.index.isin(spots.index)]
    spots = spots.loc[names]
    obs = pd.DataFrame(
        {
            "array_row": spots["y"],
            "array_col": spots["x"],
            "region": pd.Categorical(regions.reindex(names, fill_value="unlabelled")),
            "sample": pd.Categorical([section] * len(names)),
        },
        index=names.astype(str),
    )
    return AnnData(
        X=sparse.csr_matrix(counts.loc[names].to_numpy(dtype=np.float32)),
        obs=obs,
        var=pd.DataFrame(index=counts.columns.astype(str)),
        obsm={"spatial": spots[["pixel_x", "pixel_y"]].to_numpy(dtype=np.float64)},
    )


def _read_spots(path: Path) -> pd.DataFrame:
    """Read the spots under tissue: columns x, y (array), pixel_x, pixel_y; index such as `10x15`."""
    spots = pd.read_csv(path, sep="\t")
    spots = spots[spots["selected"] == 1]
    return spots.set_index(_spot_names(spots))


def _read_regions(path: Path) -> pd.Series:
    """Read the label of each labelled spot; index such as `10x15`."""
    # The pixels in this file are those of a smaller, rotated image, so only the array coordinates can be used.
    labels = pd.read_csv(path, sep="\t").dropna(subset=["x", "y"])
    return labels.set_index(_spot_names(labels))["label"]


def _spot_names(table: pd.DataFrame) -> pd.Index:
    """Make names of spots as in the counts, from their array coordinates."""
    rounded = table[["x", "y"]].round().astype(int).astype(str)
    return pd.Index(rounded["x"] + "x" + rounded["y"])


def _find_file(name: str) -> Path:
    """Return a verified file from the user's data folder, the cache, or the authors' repository, in this order."""
    import pooch

    local = Path(os.environ.get(DATA_VARIABLE, "")) / "her2st_raw" / name
    if os.environ.get(DATA_VARIABLE) and local.is_file():
        found = pooch.file_hash(str(local))
        if found != _HASHES[name]:
            msg = (
                f"{local} is not the file published by the authors (SHA-256 {found}, expected {_HASHES[name]}); "
                f"replace it, or unset {DATA_VARIABLE} to download it."
            )
            raise ValueError(msg)
        return local
    try:
        fetched = pooch.retrieve(
            _URL + name,
            known_hash=_HASHES[name],
            fname=Path(name).name,
            path=settings.cache_dir / "her2st" / _COMMIT[:12],
            progressbar=settings.progress,
        )
    except OSError as error:
        msg = (
            f"{_URL + name} could not be downloaded: {error}. If you have the file, set {DATA_VARIABLE} to the folder "
            f"that contains her2st_raw/{name}; sct.datasets.pbmc68k() works offline."
        )
        raise ConnectionError(msg) from error
    return Path(fetched)
