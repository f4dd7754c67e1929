// The dialogs of the task page: keys, differences, ties, skip and report.
import { keysOn, setKeys } from "./keys.js";
import { showDiff } from "./diff.js";
import { tiersOf } from "./state.js";

const $ = (id) => document.getElementById(id);

export class Dialogs {
  constructor({ facts, remark, submit, letter }) {
    Object.assign(this, { facts, letter });
    for (const button of document.querySelectorAll("dialog [data-close]")) {
      button.addEventListener("click", () => button.closest("dialog").close());
    }
    for (const form of document.querySelectorAll("form.remark")) {
      form.addEventListener("submit", (event) => {
        event.preventDefault();
        const given = new FormData(form);
        form.closest("dialog").close();
        remark(form.dataset.kind, given.get("reason"), given.get("note").trim());
        form.reset();
      });
    }
    $("ties-submit").addEventListener("click", () => {
      $("ties-dialog").close();
      submit();
    });
    $("keys-on").checked = keysOn();
    $("keys-on").addEventListener("change", ({ target }) => setKeys(target.checked));
    this.fillDiff();
  }

  open(id) {
    $(id).showModal();
  }

  /** Ask once more before a ranking with many ties. */
  askTies(state) {
    const tiers = tiersOf(state).filter((tier) => tier.length > 1);
    const tied = tiers.map((tier) => tier.map((id) => this.letter(id)).join(" = ")).join("; ");
    const all = tiers.length === 1 && tiers[0].length === state.shown.length;
    $("ties-said").textContent = all ? `You put all answers on one tier: ${tied}.` : `You tied ${tied}.`;
    this.open("ties-dialog");
  }

  fillDiff() {
    for (const select of [$("diff-left"), $("diff-right")]) {
      select.append(...this.facts.shown.map((id, at) => new Option(String.fromCharCode(65 + at), id)));
      select.addEventListener("change", () => this.drawDiff());
    }
  }

  /** The focused answer beside its neighbour; both can be chosen. */
  showDiff(id) {
    const { shown } = this.facts;
    if (shown.length < 2) return;
    const at = shown.indexOf(id);
    $("diff-left").value = id;
    if ($("diff-right").value === id || !$("diff-right").value) $("diff-right").value = shown[(at + 1) % shown.length];
    this.drawDiff();
    this.open("diff-dialog");
  }

  drawDiff() {
    const { texts } = this.facts;
    const [left, right] = [texts[$("diff-left").value], texts[$("diff-right").value]];
    $("diff-said").textContent = showDiff($("diff-before"), $("diff-after"), left, right);
  }
}
