"""Options, actors and people of the kit, and what makes its rows known to pytest and to the report.

pytest conformance --url https://host/fhir --client client.json --profile profile.toml --report report.html
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from conformance.profile import ACTORS, Clients, DeclarationError, Profile
from conformance.redaction import Redaction
from conformance.report import Report
from conformance.server import Actor, NoSuchTokenError, NoTokenError, Server
from conformance.shelf import Known, Shelf, Shelves

ROWS: Final[Mapping[str, Mapping[str, str]]] = {
    row["id"]: row for row in json.loads(Path(__file__).with_name("rows.json").read_text("utf-8"))
}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance")
    group.addoption("--url", help="FHIR base URL of the server under test")
    group.addoption("--client", type=Path, help="client file: the actors, with their keys or tokens")
    group.addoption("--profile", type=Path, help="profile file: what the server claims, and the people to use")
    group.addoption("--report", type=Path, help="where to write the HTML report")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "row(id): the row of the contract that a test proves")
    config.addinivalue_line("markers", "option(name, is_claimed=True): an option of the profile that a test needs")
    if config.getoption("report", None):
        config.pluginmanager.register(Report(config.getoption("report"), ROWS), "conformance-report")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if (row := row_of(item)) is not None and row not in ROWS:
            raise pytest.UsageError(f"{item.nodeid}: rows.json has no row {row}")


def row_of(item: pytest.Item) -> str | None:
    marker = item.get_closest_marker("row")
    return str(marker.args[0]) if marker else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Say which row an outcome is about; of a failure, which rule of which guide, and what was exchanged."""
    report = yield
    if (row := row_of(item)) is None:
        return report
    report.row = row
    if report.failed:
        said = ROWS[row]
        where = f"{row} · {said['guide']} {said['version']}, {said['section']}"
        report.sections.append(("The rule", f"{where}\n{said['title']}"))
        watched = getattr(item, "funcargs", {}).get("_watched")
        if watched is not None and call.excinfo is not None:
            server, redaction = watched
            report.message = redaction.text(str(call.excinfo.value))
            report.exchanges = [redaction.told(each) for each in server.log]
    return report


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call() -> Generator[None, Any, Any]:
    """A test that needs a token of a scope which cannot be had is skipped."""
    try:
        return (yield)
    except NoSuchTokenError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def profile(request: pytest.FixtureRequest) -> Profile:
    path = request.config.getoption("profile")
    if path is None:
        pytest.exit("--profile: which options does the server claim?", returncode=pytest.ExitCode.USAGE_ERROR)
    try:
        return Profile.load(path)
    except DeclarationError as error:
        pytest.exit(str(error), returncode=pytest.ExitCode.USAGE_ERROR)


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    url, path = request.config.getoption("url"), request.config.getoption("client")
    if url is None or path is None:
        pytest.exit("--url and --client: which server, and as whom?", returncode=pytest.ExitCode.USAGE_ERROR)
    try:
        server = Server(url, Clients.load(path))
    except DeclarationError as error:
        pytest.exit(str(error), returncode=pytest.ExitCode.USAGE_ERROR)
    yield server
    server.close()


@pytest.fixture(autouse=True)
def _watched(request: pytest.FixtureRequest, server: Server, profile: Profile) -> tuple[Server, Redaction]:
    """Skip what the server does not claim; keep the exchanges of each test for the report."""
    for marker in request.node.iter_markers("option"):
        name, is_claimed = marker.args[0], marker.kwargs.get("is_claimed", True)
        if profile.options[name] is not is_claimed:
            pytest.skip(f"the profile {'does not claim' if is_claimed else 'claims'} the option {name}")
    server.log.clear()
    return server, Redaction(profile)


def _actor(server: Server, name: str) -> Actor:
    if not server.has(name):
        pytest.skip(f"the client file has no actor {name}")
    try:
        server.token(name)
    except NoTokenError as error:
        pytest.exit(f"the {name} gets no token: {error}", returncode=pytest.ExitCode.USAGE_ERROR)
    return Actor(server, name)


@pytest.fixture(scope="session")
def author(server: Server) -> Actor:
    """The software of a healthcare organisation that publishes documents, and may register people."""
    return _actor(server, ACTORS[0])


@pytest.fixture
def professional(server: Server) -> Actor:
    """The software of another healthcare organisation, which may consult the same people."""
    return _actor(server, ACTORS[1])


@pytest.fixture
def patient(server: Server) -> Actor:
    """The person named "first" in the profile."""
    return _actor(server, ACTORS[2])


@pytest.fixture
def representative(server: Server) -> Actor:
    """A legal representative of the person named "first"."""
    return _actor(server, ACTORS[3])


@pytest.fixture(scope="session")
def shelves(author: Actor, profile: Profile) -> Shelves:
    return Shelves(author, profile)


@pytest.fixture
def shelf(request: pytest.FixtureRequest, shelves: Shelves) -> Shelf:
    """Where a test publishes: in the record of somebody whom its module, or its row, has for itself."""
    name = getattr(request.module, "SHELF", None) or f"rows {row_of(request.node)}"
    return shelves.of(name)


@pytest.fixture
def first(shelf: Shelf) -> Known:
    """The person of the shelf."""
    return shelf.person


@pytest.fixture(scope="session")
def second(shelves: Shelves) -> Known:
    """Somebody else."""
    return shelves.known("second")
