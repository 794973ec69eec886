"""XML of microscopes: read in any encoding, refused with entities, never an exception that is not named."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plateline.errors import SourceError
from plateline.layouts.xml import local_name, read_xml

BOMB = """<?xml version="1.0"?>
<!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<lolz>&b;</lolz>"""


def write(folder, content):
    file = folder / "Index.xml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_any_encoding_is_read(tmp_path, encoding):
    text = f'<?xml version="1.0" encoding="{encoding.removesuffix("-sig")}"?><!-- é --><a x="µm"><b>é</b></a>'
    root = read_xml(write(tmp_path, text.encode(encoding)))
    assert (root.get("x"), root[0].text) == ("µm", "é")


def test_local_name_drops_the_namespace(tmp_path):
    root = read_xml(write(tmp_path, '<p:a xmlns:p="http://x/1"><b/></p:a>'))
    assert (root.tag, local_name(root), local_name(root[0])) == ("{http://x/1}a", "a", "b")


@pytest.mark.parametrize(
    "content",
    [
        BOMB,
        BOMB.replace('<?xml version="1.0"?>', '<?xml version="1.0" encoding="utf-16"?>').encode("utf-16"),
        '<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>',
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
        '<!-- <a> --><?pi <a> ?><!DOCTYPE a [<!ENTITY % p "x"> %p;]><a/>',
        "<!DOCTYPE a><a/>",
    ],
)
def test_a_document_type_is_refused(tmp_path, content):
    with pytest.raises(SourceError, match=r"Index.xml has a document type .* declare entities"):
        read_xml(write(tmp_path, content))


@pytest.mark.parametrize(
    "content",
    ["", "no xml", "<a>", "<a></b>", "<a>&x;</a>", "<a/><a/>", b"\xff\xfe\x00",
     b'<?xml version="1.0" encoding="x"?><a/>', b'<?xml version="1.0" encoding="utf-7"?><a/>',
     b"<a>\x00</a>", b"<a x:y='1'/>"],
)  # fmt: skip
def test_broken_xml_is_a_source_error(tmp_path, content):
    with pytest.raises(SourceError, match=r"Index.xml cannot be read as XML: .+; copy it again"):
        read_xml(write(tmp_path, content))


def test_a_missing_file_is_a_source_error(tmp_path):
    with pytest.raises(SourceError, match="cannot be read as XML"):
        read_xml(tmp_path / "gone.xml")
    with pytest.raises(SourceError, match="cannot be read as XML"):
        read_xml(tmp_path)


def test_deep_nesting_is_read(tmp_path):
    assert local_name(read_xml(write(tmp_path, "<a>" * 5000 + "</a>" * 5000))) == "a"


PIECES = st.sampled_from(
    ["<a>", "</a>", "<!DOCTYPE a [", "]>", "<!ENTITY x 'y'>", "&x;", "é", "<", '<?xml version="1.0"?>']
)


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.binary(max_size=60), st.lists(PIECES, max_size=8).map(lambda pieces: "".join(pieces).encode())))
def test_any_bytes_are_read_or_refused_by_name(content):
    with tempfile.TemporaryDirectory() as folder:
        try:
            root = read_xml(write(Path(folder), content))
        except SourceError as error:
            assert "Index.xml" in str(error)
        else:
            assert local_name(root)
