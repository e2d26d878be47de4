"use strict"
// Texts reach the page by textContent alone: nothing that is typed or translated is ever markup.

const at = (id) => document.getElementById(id)
const [source, target, more, others, attention, weights, status, unlock] =
  ["source", "target", "more", "others", "attention", "weights", "status", "unlock"].map(at)
const PAUSE = 150 // milliseconds without a key before what is typed is translated
const CANDIDATES = 5
const KEY = "transformer-key"
let server = {beam: 1, limits: {details: 0}}
let lines = [] // of each line: its candidates, and which of them is chosen
let line = 0 // the chosen one
let timer, running

const made = (tag, name, text = "") => Object.assign(document.createElement(tag), {className: name, textContent: text})
const button = (name, text) => Object.assign(made("button", name, text), {type: "button"})
const language = (code) => {
  try { return new Intl.DisplayNames("en", {type: "language"}).of(code) } catch { return code }
}

async function greet() {
  try {
    const answer = await fetch("/healthz")
    if (!answer.ok) return
    server = await answer.json()
    at("direction").textContent = `${language(server.source)} to ${language(server.target)}`
    source.lang = server.source
    target.lang = others.lang = server.target
  } catch { tell("the server does not answer", true) }
}

function tell(text, wrong = false) {
  status.textContent = text
  status.classList.toggle("wrong", wrong)
}

function typed(event) {
  if (event?.isComposing) return
  clearTimeout(timer)
  for (const pane of [target, more]) pane.classList.toggle("stale", lines.length > 0)
  timer = setTimeout(translate, PAUSE)
}

async function translate() {
  running?.abort()
  const asked = source.value.replace(/\s+$/, "").split("\n")
  if (asked.length === 1 && asked[0].trim() === "") return show([], "")
  const much = tooMuch(asked)
  if (much) return tell(much, true)
  const own = running = new AbortController()
  const nbest = Math.min(server.beam, CANDIDATES)
  const details = asked.length * nbest <= server.limits.details
  const headers = {"Content-Type": "application/json"}
  if (sessionStorage[KEY]) headers.Authorization = `Bearer ${sessionStorage[KEY]}`
  const began = performance.now()
  target.setAttribute("aria-busy", "true")
  try {
    const body = JSON.stringify({lines: asked.map((one) => one.toWellFormed?.() ?? one), nbest, details})
    const answer = await fetch("/translate", {method: "POST", headers, body, signal: own.signal})
    const found = await answer.json().catch(() => ({detail: `the server answered ${answer.status}`}))
    if (answer.ok) show(found.nbest, `${Math.round(performance.now() - began)} ms · model ${found.model.slice(0, 12)}`)
    else refused(answer.status, found.detail)
  } catch (error) {
    if (error.name !== "AbortError") tell("the server does not answer: is it running?", true)
  } finally {
    if (own === running) target.setAttribute("aria-busy", "false")
  }
}

function tooMuch(asked) {
  const {lines: most, characters} = server.limits
  if (asked.length > most) return `These are ${asked.length} lines; at most ${most} are translated at a time.`
  const place = asked.findIndex((one) => one.length > characters && [...one].length > characters)
  if (place < 0) return ""
  return `Line ${place + 1} has ${[...asked[place]].length} characters; a line may have ${characters}.`
}

function refused(status, detail) {
  if (status === 401) {
    unlock.hidden = false
    at("key").focus()
  }
  tell(status === 401 && !sessionStorage[KEY] ? "" : detail, true)
  if (status === 422) greet() // the server may have another model or engine by now
}

function show(found, told) {
  lines = found.map((candidates) => ({candidates, chosen: 0}))
  line = Math.min(line, Math.max(lines.length - 1, 0))
  if (lines.length && !lines[line].candidates[0].text) line = Math.max(lines.findIndex((one) => one.candidates[0].text), 0)
  for (const pane of [target, more]) pane.classList.remove("stale")
  tell(told)
  showLines()
  showMore()
}

function showLines() {
  target.classList.toggle("several", lines.length > 1)
  target.replaceChildren(...lines.map(({candidates, chosen}, place) => {
    const text = candidates[chosen].text
    if (lines.length === 1) return made("p", "sentence", text)
    const sentence = button("sentence", text)
    sentence.disabled = !text
    sentence.setAttribute("aria-pressed", place === line)
    sentence.onclick = () => {
      line = place
      for (const [other, one] of [...target.children].entries()) one.setAttribute("aria-pressed", other === place)
      showMore()
    }
    return sentence
  }))
  at("copy").hidden = lines.length === 0
}

function showMore() {
  more.hidden = lines.length === 0 || !lines[line].candidates[0].text
  if (more.hidden) return
  const {candidates, chosen} = lines[line]
  others.replaceChildren(...candidates.map((candidate, place) => {
    const option = button("candidate", "")
    option.append(made("span", "", candidate.text), made("span", "", candidate.score.toFixed(2)))
    option.setAttribute("role", "radio")
    option.setAttribute("aria-checked", place === chosen)
    option.tabIndex = place === chosen ? 0 : -1
    option.onclick = () => choose(place)
    return option
  }))
  showAttention(candidates[chosen])
}

function choose(place) {
  lines[line].chosen = place
  showLines()
  showMore()
  others.children[place].focus()
}

others.onkeydown = (event) => {
  const step = {ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1}[event.key]
  if (!step) return
  event.preventDefault()
  const {candidates, chosen} = lines[line]
  choose((chosen + step + candidates.length) % candidates.length)
}

// Tokens are put together to words: the places of its tokens, and how they read.
function words(tokens) {
  const found = []
  for (const [place, token] of tokens.entries()) {
    const end = token === "</s>" && place === tokens.length - 1
    const begins = token.startsWith("\u2581") || /^[\p{sc=Han}\p{sc=Hira}\p{sc=Kana}\p{sc=Thai}\p{sc=Lao}\p{sc=Khmr}\p{sc=Mymr}]/u.test(token)
    if (end || begins || !found.length) found.push({places: [], bytes: [], end})
    const word = found.at(-1)
    word.places.push(place)
    const byte = /^<0x([0-9A-F]{2})>$/.exec(token)
    word.bytes.push(...(byte ? [parseInt(byte[1], 16)] : new TextEncoder().encode(token.replaceAll("\u2581", ""))))
  }
  for (const word of found) word.text = word.end ? "end" : new TextDecoder().decode(new Uint8Array(word.bytes)) || "\u2423"
  return found
}

const sum = (numbers) => numbers.reduce((one, other) => one + other, 0)

// For each word of the translation the weights of the source's words.
function table(alignment, written, read) {
  return written.map((to) => read.map((from) =>
    sum(to.places.map((row) => sum(from.places.map((column) => alignment[row][column])))) / to.places.length))
}

function showAttention(candidate) {
  weights.textContent = candidate.details
    ? "Point at a word, or go there with Tab and the arrow keys, to see where the model looked."
    : server.limits.details ? "Shown for fewer lines at a time."
    : `The engine ${server.engine} does not tell it; the server's --engine torch does.`
  attention.replaceChildren(...(candidate.details ?? []).flatMap((part) => {
    const [read, written] = [words(part.source_tokens), words(part.tokens)]
    const looked = table(part.alignment, written, read)
    const rows = [row("Text", read, server.source), row("Translation", written, server.target)]
    const [from, to] = rows.map((one) => [...one.querySelectorAll(".word")])
    for (const [place, word] of from.entries()) link(word, to, looked.map((all) => all[place]), "was looked at for")
    for (const [place, word] of to.entries()) link(word, from, looked[place], "looked at")
    return rows
  }))
  const first = attention.querySelector(".word")
  if (first) first.tabIndex = 0
}

function row(name, found, lang) {
  const made_ = made("div", "words")
  made_.append(made("span", "", name), ...found.map((word) => {
    const one = button(word.end ? "word end" : "word", word.text)
    if (word.end) one.setAttribute("aria-label", "end of sentence")
    else one.lang = lang
    one.tabIndex = -1
    return one
  }))
  return made_
}

function link(word, partners, found, verb) {
  word.onmouseenter = word.onfocus = word.onclick = () => {
    clear()
    word.classList.add("chosen")
    for (const [place, partner] of partners.entries()) partner.style.setProperty("--weight", (found[place] * 0.6).toFixed(3))
    const most = found.map((weight, place) => ({weight, text: partners[place].textContent}))
      .filter((one) => one.weight >= 0.05).sort((one, other) => other.weight - one.weight).slice(0, 4)
    const listed = most.map((one) => `“${one.text}” ${Math.round(one.weight * 100)} %`).join(", ")
    weights.textContent = `“${word.textContent}” ${verb} ${listed || "nothing in particular"}`
  }
}

function clear() {
  for (const one of attention.querySelectorAll(".word")) {
    one.classList.remove("chosen")
    one.style.removeProperty("--weight")
  }
}

attention.onkeydown = (event) => {
  if (event.key === "Escape") clear()
  const step = {ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0]}[event.key]
  if (!step || !event.target.matches(".word")) return
  event.preventDefault()
  const rows = [...attention.children].map((one) => [...one.querySelectorAll(".word")])
  const current = rows.findIndex((one) => one.includes(event.target))
  const next = rows[Math.min(Math.max(current + step[0], 0), rows.length - 1)]
  const place = rows[current].indexOf(event.target) + step[1]
  const word = next[Math.min(Math.max(place, 0), next.length - 1)]
  event.target.tabIndex = -1
  word.tabIndex = 0
  word.focus()
}

at("copy").onclick = async () => {
  await navigator.clipboard.writeText(lines.map(({candidates, chosen}) => candidates[chosen].text).join("\n"))
  at("copy").textContent = "Copied"
  setTimeout(() => { at("copy").textContent = "Copy" }, 1500)
}

unlock.onsubmit = (event) => {
  event.preventDefault()
  sessionStorage[KEY] = at("key").value
  unlock.hidden = true
  source.focus()
  translate()
}

source.oninput = typed
source.addEventListener("compositionend", () => typed())
greet().then(() => { if (source.value) translate() })
