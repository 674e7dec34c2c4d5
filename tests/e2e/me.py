"""The person's own page: seen, taken and erased by keyboard alone; and what the operator sees of it."""

import json
import re

from matrix import CLIENT, IDENTITY
from selenium.webdriver.common.keys import Keys
from steps import expect, expect_json, expect_named, poll
from story import lookup_of
from world import Chapter, World, ask_for_page, newcomer, next_mail, publish, validate, visit_link

IVAN = "ivan.owner@example.org"
JUDY = "judy.silent@example.org"
UNKNOWN = "nobody.knows@example.org"
ADDRESSES = [IVAN, JUDY, UNKNOWN]
# What is kept for its own time: who had what done, and who looked up.
STAYS = {"audit", "lookups"}

CHAPTER = Chapter(private=ADDRESSES)


@CHAPTER.step
def owners_hear_of_it(world: World) -> None:
    """ivan and judy publish their addresses, and hear of it by mail"""
    for name, address in (("ivan", IVAN), ("judy", JUDY)):
        person = newcomer(world, name)
        publish(world, person, address)
        notice = next_mail(world, address, "/me")
        expect_named(person.user_id, notice.part("text/plain"), "the notice says which account")
        notice.check_crlf()


@CHAPTER.step
def unknown_addresses_get_the_same_answer(world: World) -> None:
    """the page answers the same for an address that nobody knows, and sends nothing"""
    mails = len(world.mailbox.mails)
    answers = [ask_for_page(world, address) for address in (UNKNOWN, IVAN)]
    expect(answers[0], answers[1], "the answers")
    visit_link(world, IVAN)
    expect(len(world.mailbox.mails), mails + 1, "one mail, to the one who is known")


@CHAPTER.step
def a_person_sees_their_data_by_keyboard(world: World) -> None:
    """ivan reaches his page from the front page by keyboard alone, without JavaScript"""
    browser = world.browser_without_scripts
    browser.open(f"https://{world.bindery.server_name}/")
    browser.tab_to("a[href^='/me']")
    browser.press(Keys.ENTER)
    browser.tab_to("#address")
    browser.press(IVAN)
    browser.press(Keys.ENTER)
    poll(lambda: browser.outcome() == "me_sent", 15, "the answer")
    browser.open(visit_link(world, IVAN))
    expect(browser.outcome(), "me_visit", "opening the link asks")
    browser.tab_to("main form button")
    browser.press(Keys.ENTER)
    poll(lambda: browser.outcome() == "me_data", 15, "the page")
    expect(IVAN in browser.text(), True, "what the page shows")
    expect_named(world.people["ivan"].user_id, browser.text(), "what the page shows")


@CHAPTER.step
def a_person_changes_their_language_by_keyboard(world: World) -> None:
    """ivan chooses German for his mails, by keyboard alone"""
    browser = world.browser_without_scripts
    browser.tab_to("#language")
    browser.press("D")
    browser.tab_to("form[action^='/me/language'] button")
    browser.press(Keys.ENTER)
    poll(lambda: browser.count("[role=status]") == 1, 15, "what was done")


@CHAPTER.step
def a_person_withdraws_by_keyboard(world: World) -> None:
    """ivan withdraws his address by keyboard alone: nobody finds him, and a mail in German says so"""
    browser = world.browser_without_scripts
    browser.tab_to("form[action^='/me/withdraw'] button")
    browser.press(Keys.ENTER)
    poll(lambda: browser.count("form[action^='/me/withdraw']") == 0, 15, "the page without the binding")
    expect(lookup_of(world, [IVAN]), {}, "what a lookup finds")
    notice = next_mail(world, IVAN, "/me")
    expect(notice.language, "de", "the language of the notice")


@CHAPTER.step
def a_person_erases_everything_by_keyboard(world: World) -> None:
    """ivan erases everything by keyboard alone, and his page is closed"""
    browser = world.browser_without_scripts
    browser.tab_to("a[href^='/me/erase']")
    browser.press(Keys.ENTER)
    poll(lambda: browser.outcome() == "me_erase", 15, "the question")
    browser.tab_to("button[name=sure]")
    browser.press(Keys.ENTER)
    poll(lambda: browser.outcome() == "me_erased", 15, "the end")
    browser.open(f"https://{world.bindery.server_name}/me/data")
    expect(browser.outcome(), "over", "the page afterwards")
    copy = json.loads(world.bindery.command("export", "--address", IVAN))
    held = {name: rows for name, rows in copy.items() if isinstance(rows, list) and rows and name not in STAYS}
    expect(held, {}, "what is stored")


@CHAPTER.step
def never_again_means_never(world: World) -> None:
    """judy never wants to be written to again: no mail leaves, until the operator lifts it"""
    browser = world.browser
    ask_for_page(world, JUDY)
    browser.open(visit_link(world, JUDY))
    browser.submit({})
    poll(lambda: browser.outcome() == "me_data", 15, "the page")
    browser.submit({}, form="form[action^='/me/suppress']")
    poll(lambda: browser.outcome() == "me_data", 15, "the page afterwards")
    expect(browser.count("form[action^='/me/suppress']"), 0, "the button afterwards")
    expect(browser.count("form[action^='/me/allow']"), 1, "the button that undoes it")
    mails = len(world.mailbox.mails)
    judy = world.people["judy"]
    request = {"client_secret": "after", "email": JUDY, "send_attempt": 1}
    path = f"{IDENTITY}/validate/email/requestToken"
    expect_json(world.bindery.api.post(path, request, judy.identity_token))
    ask_for_page(world, JUDY)
    unbind = {"medium": "email", "address": JUDY, "id_server": world.bindery.server_name}
    expect_json(world.synapse.api.post(f"{CLIENT}/account/3pid/unbind", unbind, judy.token))
    expect(lookup_of(world, [JUDY]), {}, "what a lookup finds")
    expect(len(world.mailbox.mails), mails, "mails sent")
    expect("written to again" in world.bindery.command("suppression", "lift", "--address", JUDY), True, "the answer")
    validate(world, judy, JUDY, JUDY)


@CHAPTER.step
def an_account_is_erased(world: World) -> None:
    """an account erases itself with its token: the token is worth nothing, and the operator sees that it was done"""
    judy = world.people["judy"]
    copy = expect_json(world.bindery.api.get("/_bindery/v1/account/export", judy.identity_token))
    expect(copy["subject"], judy.user_id, "whose copy it is")
    expect(JUDY in json.dumps(copy), False, "addresses are masked")
    expect_json(world.bindery.api.delete("/_bindery/v1/account", judy.identity_token))
    gone = world.bindery.api.get("/_bindery/v1/account/export", judy.identity_token)
    expect(gone.status_code, 401, "the status afterwards")
    audit = world.bindery.command("audit", "--mxid", judy.user_id)
    expect(re.findall(r"\b(export|erasure)\b", audit), ["export", "erasure"], "the audit")


@CHAPTER.step
def retention_is_told(world: World) -> None:
    """the operator sees what is held, has a round done, and no erased address is in the data directory"""
    status = json.loads(world.bindery.command("retention", "status", "--json"))
    expect(status["halted"], False, "rounds rest")
    expect(len(status["rules"]) > 10, True, "rules")
    # Her page was still open, which is about the address and not about the account.
    world.bindery.command("erase", "--yes", "--address", JUDY)
    expect("rewritten" in world.bindery.command("retention", "run"), True, "the file was rewritten")
    for path in world.bindery.data.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            for trace in (IVAN, JUDY, world.people["judy"].user_id):
                expect(trace.encode() in content, False, f"{path.name} holds what was erased")
