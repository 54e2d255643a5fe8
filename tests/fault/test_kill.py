"""kill -9 of host, runners, or both, under load, again and again; and a control that must lose."""
import campaign
import pytest
import verify
from campaign import Report, kill_host, run

CONTROL_CYCLES = 20


def test_kill_control_acks_before_write_and_is_caught(tmp_path):
    """The same campaign on a log that lies must fail, or it would prove nothing about the one that doesn't."""
    with pytest.raises(verify.Loss), Report("kill-control", campaign.seed(), control="this is it") as report:
        run(tmp_path, report, CONTROL_CYCLES, control="ack-before-write", kinds=(kill_host,))


def test_kill_control_sends_units_in_pieces_and_is_caught(tmp_path):
    """Spread requests whose records are sent one by one: a crash between them must be seen as half a unit."""
    with pytest.raises(verify.Torn), Report("torn-control", campaign.seed(), control="this is it") as report:
        run(tmp_path, report, CONTROL_CYCLES, kinds=(kill_host,), torn=True)


def test_kill_nine_loses_nothing(tmp_path):
    with Report("kill", campaign.seed(), control="both above") as report:
        run(tmp_path, report, campaign.cycles())
    report.check_shares()
