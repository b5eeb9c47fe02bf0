"""Errors and warnings of the package, read from its source: `python tests/test_wording.py` prints them all.

A message says what is wrong, what was found, and how to fix it, in plain words. Placeholders are kept as `{name}`;
constants of the package are put in. What needs no remedy, or names nothing that was found, is listed below.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "scanpy_sct"
MAX_WORDS = 55
"""A placeholder counts as one word."""

VERBS = """add annotate ask bring call change check choose close combine compare compute convert copy correct
create define delete do download drop fill find fit free give harmonise impute install join keep leave
list load log look lower make map mask merge move name normalise omit open pass pip pretrain put raise
read rechunk rely remove rename repeat replace request rerun round run select set sort specify train try
undo unpack unset update use wait write""".split()
STARTS = r"(?:^|[.;:,(}] |\bor |\band |, so |\bto )(?:not )?"
REMEDY = re.compile(rf"{STARTS}(?:{'|'.join(VERBS)})\b", re.IGNORECASE)
"""An instruction at the beginning of a clause."""
EXPECTED = re.compile(r"\bmust\b|\bexpected\b|\bavailable\b|\bthere are:|\b(?:is|are) needed\b|Did you mean")
"""What is valid, from which it is clear what to do."""
REMEDIES = """advice advise_genes _how_to_fix if_scaled fix hint hints kept other remedy rule ways_out
NAME_COLUMNS""".split()
"""Names of placeholders that hold an instruction."""
SENTENCES = ["unused", "also", "if_subtracted", "_better_names", "_if_joined", "_to_anndata", "error"]
"""Names of other placeholders that hold whole sentences, and may be last, as remedies may."""
END = re.compile(rf"[.?](?:\{{\}})?$|pip install \"[^\"]+\"$|\{{(?:{'|'.join([*REMEDIES, *SENTENCES])})\}}$")

# Words that mean something else to readers of another field, are old-fashioned, or blame the user. Those of the
# glossary of the project, as far as they have no other use.
FORBIDDEN = """whole.numbers? verbs? committee lesions? strangeness kin tower trunk reckon\\w* learnt.by
told.(?:apart|from|by) wants? wanted refuses? without.network company borrows? num_bins
(?:is|are).no.(?:AnnData|text|name|number|real.numbers|probabilities|logarithms) belongs.to.something.else
please sorry oops illegal bad stupid simply obviously invalid unsupported don't""".split()
UNCLEAR = re.compile(rf"\b(?:{'|'.join(FORBIDDEN)})\b|!|  |(?<![\w{{}}])_\w", re.IGNORECASE)
"""Words that are not plain, exclamation marks, double spaces, and names that start with an underscore."""

WITHOUT_REMEDY = {
    "module 'scanpy_sct": "the error that Python raises for a name that a module lacks",
    "{path}: {error}": "both are parts of the message, and the error has the remedy",
    "{path} is not an h5ad file but {": "what it is comes with what to do, see FIRST_BYTES in read/cell_file.py",
    "{path} is not a zarr store (a folder) but {": "as for h5ad files",
    "{path} does not hold an AnnData but {kind}.": "as for h5ad files, see OTHER_CONTENT",
}
"""Beginnings of errors that need no remedy of their own, and why."""
FOUND_IN_WORDS = re.compile(
    r"\b(?:is empty|are missing|are both given|are both|is None|no coordinates|there are none|"
    r"which data lacks|has no cells|some values are not|its values are neither|"
    r"all requested genes are measured|files of single cells lack|"
    r"was opened without|needs more packages|needs lightning-fabric)\b"
)
"""What was found, where there is no number or name to give."""


class Message(NamedTuple):
    """A message, and where it is in the source."""

    path: str
    line: int
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line} ({self.kind}): {self.text}"


class Module(NamedTuple):
    """One file of the package."""

    path: str
    tree: ast.Module
    constants: dict[str, str]
    """Strings of the module by name, also imported ones."""


def read_modules() -> list[Module]:
    trees = {file: ast.parse(file.read_text(encoding="utf-8")) for file in sorted(SOURCE.rglob("*.py"))}
    constants = {file: dict(own_constants(tree)) for file, tree in trees.items()}
    everywhere = {name: text for found in constants.values() for name, text in found.items()}
    for file, tree in trees.items():
        imported = [each.name for node in tree.body if isinstance(node, ast.ImportFrom) for each in node.names]
        constants[file] |= {name: everywhere[name] for name in imported if name in everywhere}
    return [Module(file.relative_to(SOURCE).as_posix(), tree, constants[file]) for file, tree in trees.items()]


def own_constants(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            value = node.value
            if isinstance(value, ast.Constant) and isinstance(value.value, str) and " " in value.value:
                yield node.targets[0].id, value.value


def text_of(node: ast.expr, constants: dict[str, str]) -> str | None:
    """Return a string with its placeholders; None: not a string."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(text_of(part, constants) or "" for part in parts)
        case ast.FormattedValue(value=ast.Name(id=name)) if name in constants:
            return constants[name]
        case ast.FormattedValue(value=value):
            return f"{{{name_of(value)}}}"
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return f"{text_of(left, constants) or '{}'}{text_of(right, constants) or '{}'}"
    return None


def name_of(node: ast.expr) -> str:
    """Return a short name for what stands in a placeholder."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Call(func=function):
            return name_of(function)
        case ast.IfExp(body=body):
            return name_of(body)
    return "..."


def messages_of(module: Module) -> Iterator[Message]:
    """Yield messages of errors, of the log, and other sentences."""
    tree, constants = module.tree, module.constants
    nodes = list(ast.walk(tree))
    functions = {node.name: node for node in nodes if isinstance(node, ast.FunctionDef)}
    makers = {
        argument.func.id
        for node in nodes
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)
        for argument in node.exc.args
        if isinstance(argument, ast.Call) and isinstance(argument.func, ast.Name) and argument.func.id in functions
    }
    found: dict[ast.expr, str] = {}
    inner: set[ast.AST] = set()
    for maker in makers:
        begun = {name: text for name, text in local_strings(functions[maker], constants).items() if name == "msg"}
        inner |= set(ast.walk(functions[maker]))
        for node in ast.walk(functions[maker]):
            if isinstance(node, ast.Return) and node.value is not None:
                found[node.value] = "error"
                constants = constants | begun
    for node in set(nodes) - inner:
        match node:
            case ast.Assign(targets=[ast.Name(id="msg")], value=value):
                found[value] = "error"
            case ast.Call(func=ast.Name(id=name), args=args) if name.endswith("Error"):
                found |= dict.fromkeys(args, "error")
            case ast.Call(func=ast.Attribute(value=ast.Name(id="logger"), attr=level), args=[first, *_]):
                found[first] = level
    parts = {part for node in found for part in ast.walk(node)} | inner | docstrings(nodes)
    for node in nodes:
        parts |= set(ast.walk(node)) - {node} if isinstance(node, ast.JoinedStr) else set()
        is_string = isinstance(node, ast.JoinedStr | ast.Constant)
        if is_string and node not in parts and is_sentence(text_of(node, constants)):
            found[node] = "text"
    for node, kind in found.items():
        text = text_of(node, constants)
        if text is not None:
            text = re.sub(r"%[-\d.]*[sdrgf]", "{}", text) if kind not in ("error", "text") else text
            yield Message(module.path, node.lineno, kind, text)


def local_strings(function: ast.FunctionDef, constants: dict[str, str]) -> dict[str, str]:
    found = {}
    for node in ast.walk(function):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                text = text_of(value, constants)
                found |= {} if text is None else {name: text}
    return found


def docstrings(nodes: list[ast.AST]) -> set[ast.AST]:
    return {node.value for node in nodes if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)}


def is_sentence(text: str | None) -> bool:
    return text is not None and len(text.split()) >= 8 and "\n" not in text and text.rstrip().endswith(".")


def all_messages() -> list[Message]:
    found = [message for module in read_modules() for message in messages_of(module)]
    return sorted(found, key=lambda message: message[:2])


def words_of(text: str) -> list[str]:
    return re.sub(r"\{[^{}]*\}", "{}", text).split()


def own_words(text: str) -> str:
    """Leave out placeholders, and what is quoted or code."""
    return re.sub(r"\{[^{}]*\}|`[^`]*`|'[^']*'", "{}", text)


def is_part(message: Message) -> bool:
    """Whether a message is put into another, which has the remedy."""
    return message.path == "checkpoints/unpickle.py" and not message.text.startswith("Cannot read")


def lacks_remedy(message: Message) -> bool:
    text = message.text
    placeholders = set(re.findall(r"\{([^{}]*)\}", text))
    return not (REMEDY.search(text) or EXPECTED.search(text) or placeholders & set(REMEDIES))


def lacks_what_was_found(message: Message) -> bool:
    return "{" not in message.text and not FOUND_IN_WORDS.search(message.text)


def is_incomplete(message: Message) -> bool:
    return not END.search(message.text.rstrip()) or len(words_of(message.text)) < 2


def is_unclear(message: Message) -> bool:
    return UNCLEAR.search(own_words(message.text)) is not None


def is_long(message: Message) -> bool:
    return len(words_of(message.text)) > MAX_WORDS


@pytest.fixture(scope="module")
def messages() -> list[Message]:
    return all_messages()


def found_by(rule: Callable[[Message], bool], messages: list[Message], *kinds: str) -> list[str]:
    """Return the messages of some kinds (none: of all) that break a rule."""
    return [str(each) for each in messages if (each.kind in kinds or not kinds) and not is_part(each) and rule(each)]


@pytest.mark.parametrize(
    "words",
    [
        "does not exist; check the path.",  # an assignment
        "Read a file first, such as pandas.read_csv",  # returned by a function
        "the cells that were looked at first hold {expected}: a matrix must",  # of several lines
        "Correct them, or name the two columns of a long table",  # with a constant
        "markers: {} of {} names are not used.{} Give symbols",  # of the log
        "seems to hold logarithms of logarithms",  # a finding, which becomes a note of pp.check and a warning
    ],
)
def test_messages_of_all_kinds_are_read(messages, words):
    assert sum(words in message.text for message in messages) == 1


def test_all_messages_are_read(messages):
    assert sum(message.kind == "error" for message in messages) > 300
    assert sum(message.kind == "warning" for message in messages) > 30


def test_errors_say_how_to_fix_them(messages):
    found = [each for each in messages if not each.text.startswith(tuple(WITHOUT_REMEDY))]
    assert not found_by(lacks_remedy, found, "error")
    assert len(WITHOUT_REMEDY) <= 5
    for start in WITHOUT_REMEDY:
        assert any(each.text.startswith(start) and lacks_remedy(each) for each in messages), start


def test_errors_and_warnings_say_what_was_found(messages):
    assert not found_by(lacks_what_was_found, messages, "error", "warning")


def test_errors_and_warnings_are_sentences(messages):
    found = [each for each in messages if not each.text.startswith(("module 'scanpy_sct", "{}: {}"))]
    assert not found_by(is_incomplete, found, "error", "warning")


def test_words_are_plain(messages):
    assert not found_by(is_unclear, messages)


def test_messages_are_short(messages):
    assert not found_by(is_long, messages)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (lacks_remedy, "layer={layer} is not in adata.layers."),
        (lacks_remedy, "Cannot read the file {path}: it is of no use."),
        (lacks_what_was_found, "The layer is not in adata.layers; choose another."),
        (is_incomplete, "layer={layer} is not in adata.layers; available: {names}"),
        (is_incomplete, ""),
        (is_unclear, "layer={layer} is invalid; use one of {names}."),
        (is_unclear, "layer={layer} is not there, please choose another."),
        (is_unclear, "layer={layer} is not there! Choose another."),
        (is_unclear, "n_cells={n_cells} must be a whole number."),
        (is_unclear, "Use the function _find_layer."),
        (is_long, "layer={layer} is not in adata.layers; use another. " * 8),
    ],
)
def test_rules_find_what_they_should(rule, text):
    assert rule(Message("pl/_imputed.py", 1, "error", text))
    good = "layer={layer} is not in adata.layers; choose another one, or omit it: available: {names}."
    assert not rule(Message("pl/_imputed.py", 1, "error", good))


if __name__ == "__main__":
    print(*all_messages(), sep="\n")
