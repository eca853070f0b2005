"""Runs cases: gets them an implementation, plays their steps, gives the two verdicts, and cleans up."""

import asyncio
import time
import traceback

from . import steps_admin, steps_driver, steps_kit, steps_shards, steps_tcp, steps_vtunnel  # noqa: F401  (they register their verbs)
from .run import CaseError, Failure, Run
from .steps_wire import VERBS
from .target import Kit, Unsupported, token_of

MAX_KITS = 4  # kits that a worker keeps, each with other options


class Result(dict):
    """What the reports are made of; plain data."""


def blank(case, adapter):
    return Result(id=case.name, key=case.key, side=case.side, version=case.version, group=case.group, title=case.title,
                  file=case.path, rules=case.rules, violates=case.violates, level=case.level, fails=case.fails,
                  implementation=adapter.name, verdict="", behaviour={}, closing={}, ms=0, log=[], output=[])


def complaint_result(adapter, text, number):
    """A failure that belongs to no case: what an ended program has said."""
    bad = {"verdict": "fail", "text": f"the program complained:\n{text}", "expected": "an end without a complaint", "came": text[:2000]}
    return Result(id=f"process/{number}", key=f"{adapter.side}/process/{number}", side=adapter.side, version="", group="Process",
                  title="A program says nothing at its end that its adapter calls a complaint", file="", rules=[], violates=[],
                  level="MUST", fails="", implementation=adapter.name, verdict="fail", behaviour=bad,
                  closing={"verdict": "pass", "text": "", "expected": "", "came": ""}, ms=0, log=[], output=text.splitlines())


class Worker:
    """Keeps kits between cases that can share one."""

    def __init__(self, adapter, seed=0, patience=10.0, echo=None):
        self.adapter, self.seed, self.patience, self.echo = adapter, seed, patience, echo
        self.kits = {}
        self.complained = []  # what ended programs have said that their adapter calls a complaint

    def look(self, process):
        text = process.complaint(self.adapter.complaints) if process and self.adapter.complaints else None
        if text:
            self.complained.append(text)

    async def _end_kit(self, kit):
        await kit.end()
        self.look(kit.process)

    async def kit_for(self, case):
        if case.fresh and self.adapter.at_url:
            raise Unsupported("a kit at a URL cannot be started afresh")
        key = tuple(sorted((k, str(v)) for k, v in case.options.items()))
        kit = None if case.fresh else self.kits.pop(key, None)
        if kit is not None and not kit.alive:
            await self._end_kit(kit)
            kit = None
        if kit is None:
            kit = Kit(self.adapter, case.options)
            await kit.start(self.patience)
        return key, kit

    async def give_back(self, key, kit, keep):
        if not keep:
            await self._end_kit(kit)
            return
        self.kits[key] = kit
        while len(self.kits) > MAX_KITS:
            await self._end_kit(self.kits.pop(next(iter(self.kits))))

    async def close(self):
        for kit in self.kits.values():
            await self._end_kit(kit)
        self.kits.clear()

    async def play(self, case, features=True):
        """One case; returns its Result."""
        result = blank(case, self.adapter)
        begin = time.monotonic()
        declared = [n for n in case.needs if n in self.adapter.unsupported] if features else []
        if case.version not in self.adapter.versions:
            declared = declared or [case.version]
        if declared:
            why = self.adapter.unsupported.get(declared[0], "not spoken")
            return self._stop(result, "unsupported", f"{declared[0]}: {why}", begin)
        play = self._kit_case if case.side == "kit" else self._driver_case
        try:
            await asyncio.wait_for(play(case, result), case.timeout or max(30.0, self.patience * 6))
        except Unsupported as e:
            return self._stop(result, "unsupported", str(e), begin)
        except asyncio.TimeoutError:
            result["behaviour"] = {"verdict": "fail", "text": "the case did not end in time", "expected": "", "came": ""}
        except (OSError, RuntimeError) as e:
            result["behaviour"] = {"verdict": "fail", "text": f"{type(e).__name__}: {e}", "expected": "", "came": ""}
        except Exception as e:  # pylint: disable=broad-except
            text = f"the suite itself failed: {traceback.format_exc(limit=-3)}"
            result["behaviour"] = {"verdict": "error", "text": text, "expected": "", "came": repr(e)}
        bad = [v for v in (result["behaviour"], result["closing"]) if v.get("verdict") not in ("pass", None)]
        result["verdict"] = "pass" if not bad else "error" if bad[0]["verdict"] == "error" else \
            "warn" if case.level == "SHOULD" else "fail"
        result["ms"] = round((time.monotonic() - begin) * 1000)
        return result

    @staticmethod
    def _stop(result, verdict, text, begin):
        result["verdict"] = verdict
        result["behaviour"] = {"verdict": verdict, "text": text, "expected": "", "came": ""}
        result["ms"] = round((time.monotonic() - begin) * 1000)
        return result

    async def judge(self, run, result):
        """The steps, then the two verdicts."""
        run.verbs = VERBS
        result["behaviour"] = {"verdict": "pass", "text": "", "expected": "", "came": ""}
        result["closing"] = {"verdict": "pass", "text": "", "expected": "", "came": ""}
        try:
            await run.steps(run.case.steps, VERBS)
            run.check_breaches()
        except Failure as e:
            result["behaviour"] = {"verdict": "fail", "text": str(e), "expected": e.expected, "came": e.came, "step": run.step_no}
        except CaseError as e:
            result["behaviour"] = {"verdict": "error", "text": f"the case is wrong: {e}", "expected": "", "came": "",
                                   "step": run.step_no}
        except (OSError, asyncio.TimeoutError) as e:
            result["behaviour"] = {"verdict": "fail", "text": f"{type(e).__name__}: {e}", "expected": "", "came": "",
                                   "step": run.step_no}
        except (TypeError, KeyError, AttributeError, ValueError, IndexError) as e:
            result["behaviour"] = {"verdict": "error", "text": f"the case is wrong: {type(e).__name__}: {e}", "expected": "",
                                   "came": "", "step": run.step_no}
        if result["behaviour"]["verdict"] == "pass":
            left = await run.closing_verdict()
            if left:
                result["closing"] = {"verdict": "fail", "text": f"{left[0]}: {left[1]}", "expected": left[0], "came": left[1]}

    # ---- kits ----

    async def _kit_case(self, case, result):
        key, kit = await self.kit_for(case)
        run = Run(case, kit, self.seed, self.patience, self.echo)
        run.scope.set("kit", {"host": kit.host, "port": kit.port})
        clean = False
        try:
            await self.judge(run, result)
            await run.finish()
            clean = result["closing"]["verdict"] == "pass" and result["behaviour"]["verdict"] == "pass"
            if not kit.alive and not run.target_may_end:
                clean = False
                result["closing"] = {"verdict": "fail", "text": f"the kit ended with status {kit.process.status}",
                                     "expected": "the kit lives on", "came": f"exit status {kit.process.status}"}
            if clean and kit.alive and not run.target_may_end and "admin" not in self.adapter.unsupported:
                left = await self._tidy(run, case, kit)
                if left:
                    clean = False
                    result["closing"] = {"verdict": "fail", "text": f"something is left in the kit: {left}",
                                         "expected": "no session, no stream", "came": left}
        finally:
            result["log"] = run.log
            if not clean:
                await run.finish(clean=False)
                result["output"] = kit.process.tail() if kit.process else []
            await self.give_back(key, kit, clean and not case.fresh and kit.alive and not run.target_may_end)

    async def _tidy(self, run, case, kit):
        """Waits until the kit holds nothing; parked sessions are killed. Returns what stays, or None."""
        if "trusted-proxy" in case.options or case.fresh:
            return None
        token = token_of("root") if "users" in case.options else case.options.get("token")
        deadline = time.monotonic() + self.patience
        while True:
            status, now = await steps_kit.quiet_admin(kit, "listTunnels", token=token)
            if status != 200 or not isinstance(now, dict):
                return f"the list of tunnels is answered {status}"
            if not now["sessions"] and not now["totalStreams"] and not now["orphanedSessions"]:
                return None
            if now["orphanedSessions"]:
                await self._kill_parked(run, kit, token)
            if time.monotonic() > deadline:
                return str({k: v for k, v in now.items() if k != "fdPermitsAvailable"})
            await asyncio.sleep(0.003)

    async def _kill_parked(self, run, kit, token):
        for session in run.sessions:
            path = f"/api/v1/tunnel/sessions/{session}?grace_ms=0"
            await steps_kit.quiet_admin(kit, "killSession", path=path, token=token)
        run.sessions.clear()

    # ---- drivers ----

    async def _driver_case(self, case, result):
        run = Run(case, steps_driver.DriverTarget(self.adapter), self.seed, self.patience, self.echo)
        try:
            await steps_driver.prepare(run)
            await self.judge(run, result)
            fine = result["behaviour"]["verdict"] == "pass" and result["closing"]["verdict"] == "pass"
            ended = run.target_may_end or any(link.ended_by_case or link.we_closed for link in run.links.values())
            if fine and run.target.process and not run.target.alive and not ended:
                result["closing"] = {"verdict": "fail", "text": f"the driver ended with status {run.target.process.status}",
                                     "expected": "the driver lives on", "came": f"exit status {run.target.process.status}"}
        finally:
            result["log"] = run.log
            await run.finish()
            if await run.target.end() is False and result["closing"].get("verdict") == "pass":
                result["closing"] = {"verdict": "fail", "text": "the driver does not end on SIGTERM",
                                     "expected": "it ends", "came": "it had to be killed"}
            self.look(run.target.process)
            if result.get("behaviour", {}).get("verdict") != "pass" or result["closing"].get("verdict") != "pass":
                result["output"] = run.target.tail()
