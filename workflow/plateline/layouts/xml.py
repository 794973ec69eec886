"""XML that a microscope wrote, parsed without entities: a file that declares any is refused before it is expanded."""

from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

from plateline.errors import SourceError


class _RootReached(Exception):
    """The root element begins: no document type can follow."""


def read_xml(file: Path) -> ElementTree.Element:
    """Root element of an XML file, in any encoding that expat knows.

    Parameters
    ----------
    file : Path
        Read whole; whether it lies inside the source folder is the caller's to know.

    Returns
    -------
    xml.etree.ElementTree.Element
        Names with their namespaces, ``{namespace}name``; see `local_name`.

    Raises
    ------
    SourceError
        If the file cannot be read, is no well-formed XML, or has a document type, in which entities are declared.
    """
    try:
        text = file.read_bytes()
    except OSError as error:
        msg = f"{file} cannot be read as XML: {' '.join(str(error).split())}; copy it again from the microscope"
        raise SourceError(msg) from error
    return parse_xml(text, file)


def parse_xml(text: bytes, file: Path) -> ElementTree.Element:
    """Root element of XML that stands in a file of another kind, as OME-XML does in a TIFF; like `read_xml`."""
    try:
        _refuse_document_type(text, file)
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, expat.ExpatError, LookupError, ValueError) as error:
        if isinstance(error, SourceError):
            raise
        msg = f"{file} cannot be read as XML: {' '.join(str(error).split())}; copy it again from the microscope"
        raise SourceError(msg) from error


def local_name(element: ElementTree.Element) -> str:
    """Name of an element without its namespace; empty for a comment."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _refuse_document_type(text: bytes, file: Path) -> None:
    """Read the prolog only, where a document type stands if there is one."""

    def refuse(*_declared: object) -> None:
        msg = (
            f"{file} has a document type (<!DOCTYPE>), which can declare entities; no microscope writes one: it is not "
            "read. Export the plate again"
        )
        raise SourceError(msg)

    def stop(*_element: object) -> None:
        raise _RootReached

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler = stop
    try:
        parser.Parse(text, True)
    except _RootReached:
        return
