"""``doctor``: shows the settings in use, what is wrong, and how to mend it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import click
from rich.text import Text

from service_kit.commands.printing import as_json_option, console, print_json, printable, table_of
from service_kit.findings import Finding, Verdict, fault
from service_kit.settings import SettingValue

_STYLES = {Verdict.FINE: "green", Verdict.NOTE: "yellow", Verdict.FAULT: "bold red"}


class Patient(NamedTuple):
    """What is examined."""

    name: str
    settings: Callable[[], Sequence[SettingValue]]
    packages: Callable[[], dict[str, str | None]]
    examinations: Sequence[Callable[[], Iterable[Finding]]]


def doctor_command(patient: Patient) -> click.Command:
    """The command. Exit status: 0, or 1 when there is a fault."""

    @click.command("doctor", help=f"Examine the {patient.name}, and say how to mend what is wrong.")
    @as_json_option
    def doctor(as_json: bool) -> None:
        findings = [finding for examine in patient.examinations for finding in _found(examine)]
        settings = patient.settings()
        faults = [finding for finding in findings if finding.verdict is Verdict.FAULT]
        if as_json:
            print_json(
                {
                    "service": patient.name,
                    "healthy": not faults,
                    "settings": [row._asdict() for row in settings],
                    "packages": patient.packages(),
                    "findings": [finding._asdict() for finding in findings],
                }
            )
        else:
            rows = [(row.variable, row.value, row.source) for row in settings]
            console().print(table_of(f"Settings of the {patient.name}", ("variable", "value", "from"), rows))
            _print_findings(findings)
            click.echo(f"{len(faults)} fault{'s' if len(faults) > 1 else ''}." if faults else "No fault was found.")
        if faults:
            sys.exit(1)

    return doctor


def _found(examine: Callable[[], Iterable[Finding]]) -> list[Finding]:
    found: list[Finding] = []
    try:
        found.extend(examine())
    except Exception as error:  # noqa: BLE001 - the others are still to be told
        found.append(fault("doctor", f"An examination failed ({type(error).__name__}: {error}).", "Tell its makers."))
    return found


def _print_findings(findings: Sequence[Finding]) -> None:
    terminal = console()
    for finding in findings:
        line = Text(f"{finding.verdict:5} ", style=_STYLES[finding.verdict])
        line.append(f"{finding.subject}: {printable(finding.text)}", style="default")
        terminal.print(line, soft_wrap=True)
        if finding.mend:
            terminal.print(Text(f"      → {printable(finding.mend)}"), soft_wrap=True)
