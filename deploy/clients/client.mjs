#!/usr/bin/env node
// Sends events to fast-ingest, each stored once, whatever fails in between. Node.js 18 or newer and browsers, nothing else.
//
//     FAST_INGEST_URL=http://127.0.0.1:8080 node client.mjs < events.ndjson > not-accepted.ndjson
//
// reads one JSON event a line and ends with status 0 once all of them are accepted. Otherwise it says why, ends with status 1 and writes those
// that were not accepted to standard output, with their ids: sending these again is safe. From a program:
//
//     import { send } from "./client.mjs";
//     await send([{ event_name: "page_view", channel: "web", user_id: "u1", timestamp: Date.now() }]);

const environment = globalThis.process?.env ?? {};
const URL_BULK = (environment.FAST_INGEST_URL || "http://127.0.0.1:8080").replace(/\/+$/, "") + "/events/bulk";
const KEY = environment.FAST_INGEST_KEY;
// Milliseconds after which a batch that is not accepted is given up.
const GIVE_UP_AFTER = 1000 * (environment.FAST_INGEST_GIVE_UP_AFTER || 300);
// Milliseconds that a try may take, its answer included.
const TRY_TIMEOUT = 1000 * (environment.FAST_INGEST_TRY_TIMEOUT || 30);
// What the server takes in one request: 1,000 events, and 4 MiB with some room.
const BATCH_EVENTS = 1000;
const BATCH_BYTES = 4_000_000;
// Milliseconds; the longest wait doubles with each try.
const WAIT_FIRST = 200;
const WAIT_MAX = 10_000;

// Node.js 18 has `crypto` in a module only.
const crypto = globalThis.crypto ?? (await import("node:crypto")).webcrypto;

/** Says why; `events` are those that were not accepted, as far as is known. They have their ids: send the same again. */
export class NotAccepted extends Error {
  events = [];
}

/** Resolves once the server has all of these objects safe on disk; rejects with NotAccepted. */
export async function send(events) {
  for (const event of events) {
    // Before the first try, and never changed: by its id the server recognizes an event that it already has.
    event.event_id ??= crypto.randomUUID();
  }
  const encoded = events.map((event) => JSON.stringify(event));
  const bytes = encoded.map((text) => new TextEncoder().encode(text).length + 1);
  for (let start = 0, end; start < events.length; start = end) {
    let size = bytes[start];
    for (end = start + 1; end < events.length && end - start < BATCH_EVENTS && size + bytes[end] < BATCH_BYTES; end++) {
      size += bytes[end];
    }
    try {
      await sendBatch(`[${encoded.slice(start, end).join(",")}]`, end - start);
    } catch (error) {
      if (error instanceof NotAccepted) error.events = events.slice(start);
      throw error;
    }
  }
}

/** Sends the same text until it is accepted. */
async function sendBatch(body, count) {
  const deadline = performance.now() + GIVE_UP_AFTER;
  for (let longest = WAIT_FIRST; ; longest = Math.min(2 * longest, WAIT_MAX)) {
    const { accepted, why, retryAfter } = await tryOnce(body, count);
    if (accepted) return;
    // Full jitter: clients that failed together must not retry together.
    const wait = 1000 * retryAfter + Math.random() * longest;
    if (performance.now() + wait > deadline) throw new NotAccepted(`gave up after ${GIVE_UP_AFTER / 1000} s: ${why}`);
    console.error(`trying again in ${(wait / 1000).toFixed(1)} s: ${why}`);
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

/** Whether it is accepted, or why to try again, and after how many seconds at least. Rejects with NotAccepted if retries are useless. */
async function tryOnce(body, count) {
  const headers = { "Content-Type": "application/json" };
  if (KEY) headers.Authorization = `Bearer ${KEY}`;
  const controller = new AbortController();
  // Not AbortSignal.timeout(), whose timer does not keep Node.js alive: its fetch may never settle if a server closes the connection at once.
  const timer = setTimeout(() => controller.abort(new Error("timed out")), TRY_TIMEOUT);
  let answer, text;
  try {
    answer = await fetch(URL_BULK, { method: "POST", headers, body, redirect: "manual", signal: controller.signal });
    text = await answer.text();
  } catch (error) {
    return { why: `no answer: ${error.cause?.message || error.message}`, retryAfter: 0 };
  } finally {
    clearTimeout(timer);
  }
  let fields = {};
  try {
    fields = JSON.parse(text) ?? {};
  } catch {
    // The answer may come from a proxy in front, and be no JSON.
  }
  if ([200, 202].includes(answer.status) && fields.accepted === count) return { accepted: true };
  const why = `${answer.status} ${fields.code ?? answer.statusText}: ${fields.detail ?? text.slice(0, 200)}`;
  // 408 and 5xx come from a slow network, or from a proxy in front.
  if ([408, 429].includes(answer.status) || answer.status >= 500) {
    const seconds = answer.headers.get("Retry-After") ?? "";
    return { why, retryAfter: /^\d+$/.test(seconds) ? Number(seconds) : 0 };
  }
  const errors = (fields.errors ?? []).map(({ index, field, message }) => `\n  event ${index}, ${field}: ${message}`);
  throw new NotAccepted(why + errors.join(""));
}

async function main() {
  let input = "";
  for await (const piece of process.stdin.setEncoding("utf8")) input += piece;
  const events = input.split("\n").filter((line) => line.trim()).map((line) => JSON.parse(line));
  try {
    await send(events);
  } catch (error) {
    if (!(error instanceof NotAccepted)) throw error;
    console.error(`${error.events.length} of ${events.length} events were not accepted: ${error.message}`);
    process.stdout.write(error.events.map((event) => JSON.stringify(event) + "\n").join(""));
    process.exitCode = 1;
  }
}

// As a program, and not when it is imported.
if (globalThis.process?.argv?.[1]) {
  const [{ realpathSync }, { fileURLToPath }] = await Promise.all([import("node:fs"), import("node:url")]);
  if (realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) await main();
}
