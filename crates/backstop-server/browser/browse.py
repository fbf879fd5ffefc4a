"""The dashboard in a browser, as people use it: against the program itself, with agents at work.

Each case is a function; what it needs is made by the program and told by it. Whatever a page complains of (a console error, a
violation of the policy, a request to elsewhere) fails the case that caused it.
"""

import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import expect, sync_playwright

HERE = Path(__file__).parent
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 860}
PAGES = ["/", "/runs", "/tasks", "/jobs", "/approvals", "/alerts", "/providers", "/spending", "/audit"]
# How long is waited for what must come, in milliseconds. Only a case that fails waits so long.
PATIENCE = 30_000
EVIL = (
    "</pre><script>window.pwned=1</script><img src=http://192.0.2.1/x onerror=window.pwned=2>"
    "\u202egnp.exe\u200b\u2066 javascript:window.pwned=3 "
)
# What an answer needs that is bigger than what a page takes.
HUGE = "all work and no play " * 4_000


class World:
    """The program with its provider, in a directory of their own."""

    def __init__(self, program, folder):
        self.program, self.folder = program, folder
        self.work = folder / "work"
        (self.work / "drafts").mkdir(parents=True)
        (self.work / "notes.md").write_text("# Notes\nOne two three four.\n")
        self.sim = self.start("sim", "--scenario", HERE / "scenario.toml", "--listen", "127.0.0.1:0")
        config = (HERE / "backstop.toml").read_text().replace("{sim}", self.sim.address)
        (folder / "backstop.toml").write_text(config)
        self.anna, self.wall = self.key("anna", "--approver"), self.key("wall", "--viewer")
        self.gateway = self.start("serve")
        self.base = f"http://{self.gateway.address}"

    def start(self, *args):
        """A process that listens; gives it with the address that it tells."""
        process = subprocess.Popen(
            [self.program, *map(str, args)], cwd=self.folder, env=ENVIRONMENT, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for line in process.stderr:
            if found := re.search(r"listens on http://(\S+);", line):
                process.address = found[1]
                return process
        raise SystemExit(f"{args[0]} ended before it told its address")

    def run(self, task, *more):
        """A run in a process of its own."""
        command = [self.program, "run", "--quiet", "--agent", "writer", "--workspace", "work", *more, task]
        return subprocess.Popen(
            command, cwd=self.folder, env=ENVIRONMENT, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )

    def submit(self, task, workspace, *more):
        """A task for a worker."""
        command = [self.program, "submit", "--agent", "writer", "--workspace", workspace, *more, task]
        subprocess.run(command, cwd=self.folder, env=ENVIRONMENT, check=True, capture_output=True)

    def key(self, name, right):
        command = [self.program, "keys", "create", name, right]
        return subprocess.run(command, cwd=self.folder, check=True, capture_output=True, text=True).stdout.strip()

    def end(self):
        for process in (self.gateway, self.sim):
            process.terminate()
            process.wait(timeout=30)


ENVIRONMENT = {"SIM_KEY": "sim-key", "PATH": "/usr/bin:/bin", "NO_PROXY": "127.0.0.1", "HOME": "/nonexistent"}


class Browser:
    """A browser that tells what its pages complain of."""

    def __init__(self, chromium, world):
        self.chromium, self.world = chromium, world

    @contextmanager
    def page(self, size=DESK, key=None, **more):
        context = self.chromium.new_context(viewport=size, base_url=self.world.base, **more)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        complaints = []
        page.add_init_script(
            "window.violations = []; document.addEventListener('securitypolicyviolation',"
            " (event) => console.error('policy: ' + event.violatedDirective + ' ' + event.blockedURI));"
        )
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: complaints.append(f"asked {request.url}")
                if not request.url.startswith(self.world.base) else None)
        page.on("dialog", lambda dialog: complaints.append(f"dialog {dialog.message}"))
        if key:
            page.goto("/login")
            page.get_by_label("Your key").fill(key)
            page.get_by_role("button", name="Sign in").click()
            expect(page.get_by_role("heading", name="Overview")).to_be_visible()
        yield page
        assert not complaints, complaints
        context.close()


def fits(page):
    """Nothing is wider than the page."""
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{page.url} is too wide"


def signs_in_and_watches_a_run_go_by(browser, world):
    with browser.page(key=world.anna) as page:
        page.goto("/runs")
        expect(page.get_by_text("live", exact=True)).to_be_visible()
        page.evaluate("window.same = true")
        running = world.run("Write steps 1 to 9 into steps/")
        page.get_by_role("link", name="Write steps 1 to 9 into steps/").click()
        expect(page.locator("#stand .pill")).to_have_text("running")
        page.evaluate("window.same = true")
        expect(page.locator(".object", has_text="step-02.md")).to_be_visible(timeout=PATIENCE)
        expect(page.locator("#stand .pill")).to_have_text("running")
        # What somebody has opened stays open while the page goes on.
        page.locator("details", has_text="Arguments and result").first.locator("summary").click()
        expect(page.locator("#stand .pill")).to_have_text("done", timeout=PATIENCE)
        expect(page.locator(".object", has_text="step-09.md")).to_be_visible()
        assert page.evaluate("window.same"), "it was the same page all the time"
        assert page.locator("details[open]").count() == 1
        assert running.wait() == 0
        rows = page.locator("#timeline > li")
        ids = rows.evaluate_all("rows => rows.map((row) => row.id)")
        assert len(ids) == len(set(ids)) and ids == sorted(ids, key=lambda row: int(row[1:])), ids
        page.reload()
        assert rows.evaluate_all("rows => rows.map((row) => row.id)") == ids


def answers_two_questions_on_a_phone(browser, world):
    one, other = (world.run(f"Count the words in notes.md and write the number to drafts/{name}.txt") for name in "ab")
    assert {one.wait(), other.wait()} == {1}, "both wait for an answer"
    with browser.page(PHONE, world.anna, has_touch=True, is_mobile=True) as page:
        page.goto("/approvals")
        fits(page)
        page.get_by_role("link", name="drafts/a.txt").tap()
        approve = page.get_by_role("button", name="Approve exactly this")
        expect(approve).to_be_visible()
        fits(page)
        assert approve.bounding_box()["height"] >= 44, "large enough for a thumb"
        approve.tap()
        expect(page.get_by_role("status").get_by_text("Approved.")).to_be_visible()
        page.goto("/approvals")
        page.get_by_role("link", name="drafts/b.txt").tap()
        page.get_by_label("Why not?").fill("not today")
        page.get_by_role("button", name="Deny").tap()
        expect(page.get_by_role("status").get_by_text("Denied.")).to_be_visible()
        expect(page.get_by_text("not today")).to_be_visible()
        page.goto("/runs?q=drafts%2Fa")
        page.get_by_role("link", name="drafts/a.txt").tap()
        expect(page.locator("#stand .pill")).to_have_text("done")
        expect(page.get_by_text("anna said yes (page)")).to_be_visible()
    assert (world.work / "drafts/a.txt").exists() and not (world.work / "drafts/b.txt").exists()


def finds_a_run_and_takes_it_back(browser, world):
    before = (world.work / "notes.md").read_bytes()
    assert world.run("Replace \"three\" with \"3\" in notes.md").wait() == 0
    assert (world.work / "notes.md").read_bytes() != before
    with browser.page(key=world.anna) as page:
        page.keyboard.press("/")
        page.wait_for_url("**/runs")
        page.keyboard.press("/")
        page.keyboard.type("three replace")
        page.keyboard.press("Enter")
        expect(page.locator("tbody tr")).to_have_count(1)
        page.keyboard.press("j")
        page.keyboard.press("Enter")
        page.get_by_role("link", name="Undo what it did").click()
        expect(page.get_by_text("write_file")).to_be_visible()
        page.get_by_role("button", name="See first").click()
        expect(page.locator("ins", has_text="One two three four.")).to_be_visible()
        assert (world.work / "notes.md").read_bytes() != before, "to look changes nothing"
        page.get_by_role("button", name="Take it back").click()
        expect(page.get_by_role("heading", name="Taken back")).to_be_visible()
    assert (world.work / "notes.md").read_bytes() == before


def retries_and_cancels_tasks_on_a_phone(browser, world):
    (world.folder / "gone").mkdir()
    world.submit("Write steps 1 to 2 into steps/", "gone", "--id", "a/dead one", "--delay", "1s")
    (world.folder / "gone").rmdir()
    world.submit("Write steps 1 to 2 into steps/", "work", "--id", "much-later", "--delay", "9h", "--priority", "batch", "--key", "steps")
    with browser.page(PHONE, world.anna, has_touch=True, is_mobile=True) as page:
        page.goto("/tasks")
        page.evaluate("window.same = true")
        dead = page.locator("tbody tr", has_text="a/dead one")
        # It dies while the page is looked at.
        expect(dead.locator(".pill")).to_have_text("dead", timeout=PATIENCE)
        assert page.evaluate("window.same"), "it was the same page all the time"
        fits(page)
        dead.get_by_role("link").first.tap()
        expect(page.get_by_role("button", name="Retry")).to_be_visible()
        (world.folder / "gone").mkdir()
        page.get_by_role("button", name="Retry").tap()
        expect(page.get_by_role("heading", name="Tasks")).to_be_visible()
        expect(dead.locator(".pill")).to_have_text("done", timeout=PATIENCE)
        page.get_by_label("Search").fill("much-later")
        page.get_by_role("button", name="Show").tap()
        page.wait_for_url(re.compile("q=much-later"))
        expect(page.locator("tbody tr")).to_have_count(1)
        page.get_by_role("link", name="Cancel").tap()
        expect(page.get_by_role("heading", name="Cancel this task?")).to_be_visible()
        fits(page)
        page.get_by_role("button", name="Cancel it for good").tap()
        expect(page.get_by_role("heading", name="Tasks")).to_be_visible()
        page.goto("/tasks?state=cancelled")
        expect(page.locator("tbody tr", has_text="much-later").locator(".pill")).to_have_text("cancelled")


def silences_an_alert_and_ends_the_silence(browser, world):
    with browser.page(key=world.anna) as page:
        page.goto("/alerts")
        alert = page.locator(".alert", has_text="models were asked")
        expect(alert.locator(".pill")).to_have_text("critical", timeout=PATIENCE)
        alert.get_by_text("Silence…").click()
        alert.get_by_label("For").select_option("4 hours")
        alert.get_by_label("Why").fill("a known job")
        alert.get_by_role("button", name="Silence").click()
        expect(alert.get_by_text("Nobody is told until")).to_be_visible()
        expect(page.locator("#silences", has_text="a known job")).to_be_visible()
        page.get_by_role("button", name="End it").click()
        expect(page.locator("#silences", has_text="a known job")).to_have_count(0)
        page.get_by_role("button", name="I look after it").first.click()
        expect(page.get_by_text("anna looks after it.")).to_be_visible()
        page.goto("/")
        expect(page.locator("#alerts", has_text="models were asked")).to_be_visible()


def whatever_agents_write_is_harmless(browser, world):
    (world.work / "evil.md").write_text(EVIL + HUGE)
    tasks = [f"call read_file with {{\"path\": \"evil.md\"}}. {EVIL}", f"call write_file with {{\"path\": \"drafts/evil.md\", \"content\": \"{EVIL.replace(chr(34), '')}\"}}"]
    for task in tasks:
        world.run(task).wait()
    for size in (PHONE, DESK):
        with browser.page(size, world.anna) as page:
            page.goto("/runs?q=evil")
            links = page.locator(".task a").evaluate_all("links => links.map((link) => link.getAttribute('href'))")
            assert len(links) == 2, links
            page.goto("/approvals")
            links += page.locator("a.question", has_text="evil").evaluate_all("links => links.map((link) => link.getAttribute('href'))")
            assert len(links) == 3, links
            for path in [*PAGES, "/runs?q=evil", *links, *(f"{link}/audit" for link in links if "/runs/" in link)]:
                page.goto(path)
                fits(page)
                page.evaluate("document.querySelectorAll('details').forEach((closed) => { closed.open = true; })")
                fits(page)
                assert page.evaluate("window.pwned") is None, f"a script ran on {path}"
                assert page.locator("main img, main script, main iframe").count() == 0
                text = page.locator("main").inner_text()
                hidden = [mark for mark in "\u202e\u200b\u2066" if mark in text]
                assert not hidden, f"{path} hides {hidden}"
                if path.startswith(("/runs/", "/approvals/")) and "audit" not in path:
                    assert "<script>window.pwned=1</script>" in text and "\\u{202e}" in text, f"{path} shows it: {text}"
                assert len(text) < 100_000, f"{path} is cut to what a page takes"


def who_only_looks_changes_nothing(browser, world):
    with browser.page(key=world.wall) as page:
        for path in ["/approvals", "/runs"]:
            page.goto(path)
            page.locator("[data-row]").first.click()
            assert page.locator("main form:not(.filters)").count() == 0, f"{page.url} has a button"
        page.goto("/runs")
        run = page.locator(".task a").first.get_attribute("href")
        answer = page.request.post(f"{run}/cancel", form={"form": ""})
        assert answer.status == 403, answer.status
        form = page.locator("form[action='/logout'] input[name=form]").get_attribute("value")
        answer = page.request.post(f"{run}/cancel", form={"form": form})
        assert (answer.status, "may look and change nothing" in answer.text()) == (403, True)
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_url("**/login")
        assert page.request.get("/runs").status == 401
    with browser.page() as page:
        for path in [*PAGES, run, f"{run}/undo", f"{run}/audit", f"{run}/audit.jsonl", "/events"]:
            assert page.request.get(path, headers={"accept": "text/html"}).status == 401, path


def every_page_is_reached_by_keyboard(browser, world):
    with browser.page(key=world.anna) as page:
        for path in PAGES:
            page.goto(path)
            page.keyboard.press("Tab")
            assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
            seen = []
            for _ in range(len(PAGES) + 2):
                page.keyboard.press("Tab")
                seen.append(page.evaluate(
                    "() => { const it = document.activeElement; return [it.getAttribute('href'), getComputedStyle(it).outlineStyle]; }"
                ))
            for there in PAGES:
                assert [there, "solid"] in seen, f"{there} from {path}: {seen}"
        page.goto("/")
        for _ in range(4):
            page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Runs")).to_be_visible()


def everybody_can_use_every_page(browser, world):
    axe = (HERE / "node_modules/axe-core/axe.min.js").read_text()
    for scheme in ("light", "dark"):
        for size in (PHONE, DESK):
            with browser.page(size, world.anna, color_scheme=scheme) as page:
                page.goto("/runs")
                runs = page.locator(".task a").evaluate_all("links => links.map((link) => link.getAttribute('href'))")
                page.goto("/approvals")
                asked = page.locator("a.question").evaluate_all("links => links.map((link) => link.getAttribute('href'))")
                for path in ["/login", *PAGES, *runs, f"{runs[0]}/audit", *asked]:
                    page.goto(path)
                    fits(page)
                    page.evaluate(axe)
                    found = page.evaluate("axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice']})")
                    told = [(one["id"], one["nodes"][0]["html"][:200], one["nodes"][0]["any"][:1]) for one in found["violations"]]
                    assert not told, f"{path} ({scheme}, {size['width']}): {told}"


CASES = [
    signs_in_and_watches_a_run_go_by,
    answers_two_questions_on_a_phone,
    finds_a_run_and_takes_it_back,
    retries_and_cancels_tasks_on_a_phone,
    silences_an_alert_and_ends_the_silence,
    whatever_agents_write_is_harmless,
    who_only_looks_changes_nothing,
    every_page_is_reached_by_keyboard,
    everybody_can_use_every_page,
]


def main(program, chromium, *names):
    failed = 0
    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        # It is run by whoever runs the tests, which in a container is root; what it reads is our own.
        launched = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        world = World(program, Path(folder))
        try:
            for case in CASES:
                if names and case.__name__ not in names:
                    continue
                try:
                    case(Browser(launched, world), world)
                    print(f"ok      {case.__name__}")
                except Exception as problem:  # noqa: BLE001, every case is looked at
                    failed += 1
                    print(f"FAILED  {case.__name__}: {problem}", file=sys.stderr)
        finally:
            world.end()
            launched.close()
    return failed


if __name__ == "__main__":
    sys.exit(1 if main(*sys.argv[1:]) else 0)
