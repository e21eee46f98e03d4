"""The outcome of a test of rules as JUnit XML, which build servers show: a case for each rule."""

from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

from app.core.model.fault import printable

_LINE_MAX = 2000  # characters


def junit(suite: str, rule_ids: Sequence[str], wrong: Mapping[str, Sequence[str]], refused: Sequence[str]) -> bytes:
    """XML of a test suite called `suite`: `rule_ids` are its cases, `wrong` gives the lines of a diff of those that
    failed, `refused` are lines about readings that were left out.
    """
    failures = sum(bool(wrong.get(rule_id)) for rule_id in rule_ids)
    counts = {"tests": str(len(rule_ids)), "failures": str(failures), "errors": "0", "skipped": "0"}
    root = ElementTree.Element("testsuites", counts)
    made = ElementTree.SubElement(root, "testsuite", {"name": printable(suite, _LINE_MAX), **counts})
    for rule_id in rule_ids:
        name = {"classname": printable(suite, _LINE_MAX), "name": printable(rule_id, _LINE_MAX)}
        case = ElementTree.SubElement(made, "testcase", name)
        if lines := wrong.get(rule_id):
            message = {"message": f"{len(lines)} alert events differ from what is expected", "type": "difference"}
            ElementTree.SubElement(case, "failure", message).text = _text(lines)
    if refused:
        ElementTree.SubElement(made, "system-err").text = _text(refused)
    ElementTree.indent(root)
    text: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return text


def _text(lines: Sequence[str]) -> str:
    return "\n".join(printable(line, _LINE_MAX) for line in lines)
