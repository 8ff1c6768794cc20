"""The tables of a new property, checked by the page: every bad place listed, and nothing ever written."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from fernmoor import Fernmoor
from prewatt.web.console import imports

SAMPLE = Path(__file__).resolve().parents[2] / "docs" / "sample"
WHERE = "/property/import"


def _files(**changed: str) -> list[SimpleUploadedFile]:
    return [
        SimpleUploadedFile(each.name, changed.get(each.stem, each.read_text("utf-8")).encode())
        for each in sorted(SAMPLE.glob("*.csv"))
    ]


def _plain(response: Any) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode()))


def _properties(place: Fernmoor) -> int:
    return int(place._as_owner("SELECT count(*) FROM property")[0][0])


def test_good_tables_say_what_an_import_would_make_and_nothing_is_made(
    fernmoor: Fernmoor, sign_in: Callable[..., Any]
) -> None:
    client, before = sign_in(fernmoor), _properties(fernmoor)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for each in SAMPLE.glob("*.csv"):
            archive.write(each, each.name)
    for files in (_files(), [SimpleUploadedFile("all $(x).zip", packed.getvalue())]):
        done = client.post(WHERE, {"files": files})
        assert done.status_code == 302
        page = _plain(client.get(done["Location"]))
        assert "Nothing is wrong with the tables of" in page and "prewatt import" in page
    assert "&#x27;all $(x).zip&#x27;" in page
    assert _properties(fernmoor) == before


def test_every_bad_place_is_listed_sorted_filtered_and_exported(
    fernmoor: Fernmoor, sign_in: Callable[..., Any]
) -> None:
    client = sign_in(fernmoor)
    units = (SAMPLE / "units.csv").read_text("utf-8").splitlines()
    meters = (SAMPLE / "meters.csv").read_text("utf-8")
    broken = "\n".join([units[0], *(line.replace("flat", "palace") for line in units[1:])])
    done = client.post(
        WHERE, {"files": _files(units=broken, meters=meters.replace(",yes,", ",perhaps,"))}
    )
    found = client.get(done["Location"]).content.decode()
    assert "are wrong" in found
    where = done["Location"].replace(WHERE, f"{WHERE}.csv")
    lines = list(csv.reader(io.StringIO(client.get(where).content.decode("utf-8-sig"))))
    assert lines[0][:3] == ["Table", "Row", "Column"] and len(lines) > 2
    assert not any(cell.startswith("=") for line in lines for cell in line)
    only = list(
        csv.reader(io.StringIO(client.get(f"{where}&table=units").content.decode("utf-8-sig")))
    )
    assert {line[0] for line in only[1:]} == {"units"}
    by_column = client.get(f"{done['Location']}&sort=column")
    assert by_column.status_code == 200
    # The command line's sentences in the reader's language, with the values in them.
    client.cookies["prewatt_language"] = "zh-hans"
    chinese = _plain(client.get(done["Location"]))
    assert "此处不识别 &#x27;palace&#x27;。" in chinese and "请使用其中之一：" in chinese
    assert "is not known here" not in chinese
    assert "此处不识别" in client.get(where).content.decode()
    client.cookies["prewatt_language"] = "en"
    # Another person's check is not there, nor one that is not kept.
    other = sign_in(fernmoor, "operator")
    assert other.get(done["Location"]).status_code == 403
    assert "not kept any more" in client.get(f"{WHERE}?check=nothing").content.decode()
    assert client.get(f"{WHERE}.csv?check=nothing").status_code == 404


def test_what_is_no_table_or_too_much_is_refused(
    fernmoor: Fernmoor, sign_in: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = sign_in(fernmoor)
    assert client.post(WHERE, {}).status_code == 422
    for name, content in (
        ("x.exe", b"MZ"), ("x.zip", b"PK\x03\x04 broken"), ("x.xlsx", b"\x00" * 40),
        ("units.csv", b"\xff\xfe\x00"), ("nonsense.csv", b"a,b\n1,2\n"),
    ):  # fmt: skip
        done = client.post(WHERE, {"files": [SimpleUploadedFile(name, content)]})
        assert done.status_code == 302, name
        page = _plain(client.get(done["Location"]))
        assert "wrong" in page and "Nothing is wrong" not in page, name
    monkeypatch.setattr(imports, "UPLOAD_MAX", 10)
    refused = client.post(WHERE, {"files": [SimpleUploadedFile("units.csv", b"x" * 11)]})
    assert refused.status_code == 422 and "8 MiB" in refused.content.decode()


@pytest.mark.parametrize("duty", ["operator", "auditor"])
def test_only_an_administrator_checks(
    fernmoor: Fernmoor, sign_in: Callable[..., Any], duty: str
) -> None:
    client = sign_in(fernmoor, duty)
    assert WHERE not in client.get("/property").content.decode()
    assert client.get(WHERE).status_code == 403
    assert client.post(WHERE, {"files": _files()}).status_code == 403
