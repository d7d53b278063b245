// The settings: what the model is told and how it draws, the page, and what is kept.

import { useSignal } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";

import { html } from "../../shared/html.js";
import { LANGUAGES } from "../../shared/language.js";
import { THEMES } from "../../shared/theme.js";
import { load, saveAll } from "../files.js";
import { MAX_SYSTEM, PRESETS, presetOf, readNumber, SAMPLING, withPreset } from "../../data/options.js";
import { usePage } from "../ui.js";
import { Dialog } from "./dialogs.js";

export function Settings() {
  const { words } = usePage();
  return html`<${Dialog} title=${words.options.title}>
    <${Options} />
    <${General} />
    <${Data} />
  <//>`;
}

function Options() {
  const { chat, words } = usePage();
  const texts = words.options;
  const given = chat.options();
  const options = useSignal(given);
  const wrong = useSignal({});
  const forNew = useSignal(
    Object.keys(given).length > 0 && JSON.stringify(given) === JSON.stringify(chat.defaults.value),
  );

  function set(next) {
    options.value = next;
    chat.setOptions(next);
    if (forNew.value) chat.setDefaults(next);
  }

  function setNumber(name, text) {
    const value = readNumber(name, text);
    wrong.value = { ...wrong.value, [name]: value === undefined };
    if (value === undefined) return;
    const next = { ...options.value };
    if (value === null) delete next[name];
    else next[name] = value;
    set(next);
  }

  function setSystem(text) {
    const next = { ...options.value };
    if (text.trim() === "") delete next.system;
    else next.system = text;
    set(next);
  }

  return html`<section class="options">
    <h3>${texts.forThis}</h3>
    <label class="row">
      <span>${texts.system}</span>
      <textarea
        id="system"
        rows="4"
        maxlength=${MAX_SYSTEM}
        aria-describedby="system-help"
        value=${options.value.system ?? ""}
        onInput=${(event) => setSystem(event.target.value)}
      ></textarea>
      <small id="system-help" class="soft">${texts.systemHelp}</small>
    </label>
    <${Presets} options=${options.value} onChoose=${set} />
    <div class="numbers">
      ${Object.keys(SAMPLING).map(
        (name) => html`<${Field}
          key=${name}
          name=${name}
          value=${options.value[name]}
          wrong=${wrong.value[name] === true}
          onChange=${(text) => setNumber(name, text)}
        />`,
      )}
    </div>
    <label class="check">
      <input
        type="checkbox"
        id="for-new"
        checked=${forNew.value}
        onChange=${(event) => {
          forNew.value = event.target.checked;
          if (forNew.value) chat.setDefaults(options.value);
        }}
      />
      <span>${texts.forNew}</span>
    </label>
  </section>`;
}

function Field({ name, value, wrong, onChange }) {
  const { chat, ui, words } = usePage();
  const texts = words.options;
  const { min, max, step, whole } = SAMPLING[name];
  const served = chat.health.value.sampling?.[name];
  const field = useRef(null);
  // A person's own writing stays; what a preset sets is shown.
  useLayoutEffect(() => {
    if (document.activeElement !== field.current) field.current.value = value ?? "";
  }, [value]);
  const says = (whole ? texts.invalidWhole : texts.invalid)(ui.number(min), ui.number(max));
  return html`<label class="row">
    <span>${texts.names[name]}</span>
    <input
      ref=${field}
      type="text"
      inputmode=${whole ? "numeric" : "decimal"}
      id="option-${name}"
      aria-invalid=${String(wrong)}
      aria-describedby="help-${name}"
      step=${step}
      placeholder=${Number.isFinite(served) ? String(served) : texts.byServer}
      onInput=${(event) => onChange(event.target.value)}
    />
    <small id="help-${name}" class=${wrong ? "wrong" : "soft"}>${wrong ? says : texts.help[name]}</small>
  </label>`;
}

function Presets({ options, onChoose }) {
  const { chat, words } = usePage();
  const texts = words.options;
  const naming = useSignal(false);
  const own = chat.presets.value;
  const builtIn = presetOf(options);
  const name = presetOf(options, own);
  const chosen = builtIn ? `built-in ${builtIn}` : name ? `own ${name}` : "";

  function choose(value) {
    const [kind, ...rest] = value.split(" ");
    const preset = kind === "own" ? own[rest.join(" ")] : PRESETS[rest.join(" ")];
    if (preset) onChoose(withPreset(options, preset));
  }

  function save(event) {
    event.preventDefault();
    const wanted = new FormData(event.target).get("name").trim().slice(0, 60);
    if (wanted === "") return;
    const { system, ...preset } = options;
    chat.setPresets({ ...own, [wanted]: preset });
    naming.value = false;
  }

  function remove() {
    const { [name]: gone, ...rest } = own;
    chat.setPresets(rest);
  }

  return html`<div class="row presets">
    <label for="preset">${texts.preset}</label>
    <div class="beside">
      <select id="preset" value=${chosen} onChange=${(event) => choose(event.target.value)}>
        ${chosen === "" && html`<option value="">${texts.custom}</option>`}
        ${Object.keys(PRESETS).map(
          (each) => html`<option value=${`built-in ${each}`}>${texts.presets[each]}</option>`,
        )}
        ${Object.keys(own).map((each) => html`<option value=${`own ${each}`}>${each}</option>`)}
      </select>
      ${chosen === "" &&
      !naming.value &&
      html`<button type="button" id="save-preset" onClick=${() => (naming.value = true)}>
        ${texts.savePreset}
      </button>`}
      ${!builtIn &&
      name &&
      html`<button type="button" onClick=${remove}>${texts.deletePreset}</button>`}
    </div>
    ${naming.value &&
    html`<form class="beside" onSubmit=${save}>
      <input type="text" name="name" aria-label=${texts.presetName} maxlength="60" autofocus />
      <button type="submit" class="main">${words.save}</button>
    </form>`}
  </div>`;
}

function General() {
  const { ui, words } = usePage();
  return html`<section class="general">
    <h3>${words.options.general}</h3>
    <div class="numbers">
      <label class="row">
        <span>${words.language}</span>
        <select
          id="language"
          value=${ui.language.value}
          onChange=${(event) => ui.setLanguage(event.target.value)}
        >
          ${Object.entries(LANGUAGES).map(
            ([code, name]) => html`<option value=${code} lang=${code}>${name}</option>`,
          )}
        </select>
      </label>
      <label class="row">
        <span>${words.theme}</span>
        <select
          id="theme"
          value=${ui.theme.value}
          onChange=${(event) => ui.setTheme(event.target.value)}
        >
          ${THEMES.map((each) => html`<option value=${each}>${words.themes[each]}</option>`)}
        </select>
      </label>
    </div>
  </section>`;
}

function Data() {
  const { chat, ui, words } = usePage();
  const texts = words.options;
  const input = useRef(null);
  const usage = useSignal(null);
  const n = chat.conversations.value.length;
  useEffect(() => {
    chat.usage().then((found) => (usage.value = found));
  }, [n]);
  const megabytes = (usage.value?.used ?? 0) / 1e6;
  return html`<section class="data">
    <h3>${texts.data}</h3>
    <p class="soft">${texts.usage(n, ui.number(megabytes, 1))}</p>
    <div class="buttons">
      <button type="button" id="export-all" disabled=${n === 0} onClick=${() => saveAll(chat)}>
        ${texts.exportAll}
      </button>
      <button type="button" id="import" onClick=${() => input.current.click()}>${texts.import}</button>
      <input
        ref=${input}
        type="file"
        id="import-file"
        accept=".json,application/json"
        hidden
        onChange=${async (event) => {
          const [file] = event.target.files;
          event.target.value = "";
          if (file) await load(chat, file, words);
          ui.dialog.value = null;
        }}
      />
      <button
        type="button"
        id="remove-all"
        class="danger"
        disabled=${n === 0}
        onClick=${() => (ui.dialog.value = { name: "remove" })}
      >
        ${words.removeAll}
      </button>
    </div>
    <small class="soft">${texts.importHelp}</small>
  </section>`;
}
