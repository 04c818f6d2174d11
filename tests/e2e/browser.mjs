// Plays a live stream in headless Chromium and prints, as JSON, how that went.
// Usage: node browser.mjs MODULES CHROMIUM PLAYER STREAM_URL SCREENSHOT [CLOCK]
//
// PLAYER: flv or mpegts (mpegts.js), hls or ll-hls (hls.js), mse (fragmented MP4 over HTTP or WebSocket, appended as it comes).
// CLOCK: {"began", "period", "frame"} in ms: every picture says its number in a row of white and black bars, and was sent that many frames
// after `began`, over and over. Then it is measured how long after it was sent each picture is on the screen.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import http from "node:http";
import path from "node:path";

const [modules, chromium, kind, streamUrl, screenshot, clockText] = process.argv.slice(2);
const clock = clockText ? JSON.parse(clockText) : null;
const require = createRequire(path.join(path.resolve(modules), "x.js"));
const playwright = require("playwright-core");
const scripts = {
  "/mpegts.js": readFileSync(path.join(modules, "mpegts.js", "dist", "mpegts.js")),
  "/hls.js": readFileSync(path.join(modules, "hls.js", "dist", "hls.js")),
};
// Pictures are looked at for so long at a time, until they come soon enough, and no longer than that.
const WINDOW_MS = 3000;
const WINDOWS_MAX = 10;
const SOON_MS = 1500;

// What runs in the page.
const inPage = (kind, url) => {
  window.errors = [];
  const notes = [];
  const video = document.getElementById("v");
  video.onerror = () => errors.push("video: " + (video.error && video.error.message));
  const play = () => video.play().catch((error) => errors.push(String(error)));
  let media = {}, hls = null;

  const byMpegts = () => {
    const player = mpegts.createPlayer({ type: kind, isLive: true, url });
    player.on(mpegts.Events.ERROR, (type, detail, info) => errors.push([type, detail, JSON.stringify(info)].join(" ")));
    player.on(mpegts.Events.MEDIA_INFO, (info) => { media = { mime: info.mimeType, audio: info.hasAudio, video: info.hasVideo }; });
    player.attachMediaElement(video); player.load(); play();
  };
  const byHls = () => {
    const low = kind === "ll-hls";
    hls = new Hls(low ? { lowLatencyMode: true, maxLiveSyncPlaybackRate: 1.5 } : { lowLatencyMode: false });
    // What it gets over by itself is no error: such as sound that begins before the picture.
    hls.on(Hls.Events.ERROR, (_, data) => (data.fatal ? errors : notes).push([data.type, data.details, data.reason || ""].join(" ")));
    hls.on(Hls.Events.MANIFEST_PARSED, (_, data) => { media = { levels: data.levels.map((level) => level.attrs) }; play(); });
    hls.loadSource(url); hls.attachMedia(video);
  };
  const byMse = async () => {
    const source = new MediaSource();
    video.src = URL.createObjectURL(source);
    await new Promise((done) => source.addEventListener("sourceopen", done, { once: true }));
    let head = new Uint8Array(0), buffer = null;
    const queue = [];
    const append = () => {
      if (buffer && !buffer.updating && queue.length) buffer.appendBuffer(queue.shift());
      // Over a hole, such as the sound of the clip has where it begins again, every player has to jump by itself.
      for (let at = 0; at < video.buffered.length; at++) {
        const start = video.buffered.start(at), end = at ? video.buffered.end(at - 1) : 0;
        if (video.currentTime < start && video.currentTime > end - 0.1) video.currentTime = start;
      }
    };
    const begin = () => {
      const text = new TextDecoder("latin1").decode(head);
      if (!text.includes("moof")) return;
      const avcc = text.indexOf("avcC");
      const codecs = avcc < 0 ? [] : ["avc1." + [...head.slice(avcc + 5, avcc + 8)].map((byte) => byte.toString(16).padStart(2, "0")).join("")];
      if (text.includes("mp4a")) codecs.push("mp4a.40.2");
      if (text.includes("Opus")) codecs.push("opus");
      media = { mime: `video/mp4; codecs="${codecs.join(",")}"` };
      buffer = source.addSourceBuffer(media.mime);
      buffer.addEventListener("updateend", append);
      buffer.addEventListener("error", () => errors.push("the buffer refuses what was appended"));
      queue.push(head);
    };
    const take = (bytes) => {
      if (buffer) queue.push(bytes);
      else { const all = new Uint8Array(head.length + bytes.length); all.set(head); all.set(bytes, head.length); head = all; begin(); }
      append();
    };
    play();
    if (url.startsWith("ws")) {
      const socket = new WebSocket(url);
      socket.binaryType = "arraybuffer";
      socket.onmessage = (message) => take(new Uint8Array(message.data));
      socket.onerror = () => errors.push("the WebSocket failed");
    } else {
      const reader = (await fetch(url)).body.getReader();
      for (let piece = await reader.read(); !piece.done; piece = await reader.read()) take(piece.value);
    }
  };

  window.state = () => ({ time: video.currentTime, width: video.videoWidth, height: video.videoHeight, media, errors, notes });
  window.hlsLatency = () => (hls ? hls.latency : null);
  const players = { flv: byMpegts, mpegts: byMpegts, hls: byHls, "ll-hls": byHls, mse: byMse };
  Promise.resolve(players[kind]()).catch((error) => errors.push(String(error)));
};

// Looks at every picture for a while: how old it is when it is shown, in ms.
const watchClock = async ({ clock, windowMs }) => {
  const video = document.getElementById("v"), canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [320, 180];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const ages = [], latencies = [];
  let running = true, unread = 0;
  const look = () => {
    if (!running) return;
    context.drawImage(video, 0, 0, 320, 180);
    const is = (at, y) => context.getImageData(at * 32 + 16, y, 1, 1).data[1] > 128;
    let number = 0, readable = true;
    // The lower half says the opposite, so that half a picture is not believed.
    for (let at = 0; at < 10; at++) { number += is(at, 45) ? 1 << at : 0; readable &&= is(at, 45) !== is(at, 135); }
    if (readable) ages.push((((Date.now() - clock.began - number * clock.frame) % clock.period) + clock.period) % clock.period);
    else unread++;
    video.requestVideoFrameCallback(look);
  };
  video.requestVideoFrameCallback(look);
  const sample = setInterval(() => { const latency = hlsLatency(); if (latency !== null) latencies.push(latency * 1000); }, 100);
  await new Promise((done) => setTimeout(done, windowMs));
  running = false;
  clearInterval(sample);
  const quantile = (values, share) => Math.round([...values].sort((a, b) => a - b)[Math.floor((values.length - 1) * share)] ?? -1);
  return { pictures: ages.length, unread, glass: quantile(ages, 0.5), glass_max: quantile(ages, 1), latency: quantile(latencies, 0.5), rate: video.playbackRate };
};

const page = `<!doctype html><body style="margin:0;background:#333"><video id="v" muted autoplay playsinline width="640"></video>
<script src="/mpegts.js"></script><script src="/hls.js"></script>
<script>(${inPage})(${JSON.stringify(kind)}, ${JSON.stringify(streamUrl)});</script>`;

const server = http.createServer((request, response) => {
  const script = scripts[request.url];
  response.setHeader("Content-Type", script ? "text/javascript" : "text/html");
  response.end(script ?? page);
});
await new Promise((done) => server.listen(0, "127.0.0.1", done));

const browser = await playwright.chromium.launch({
  executablePath: chromium,
  headless: true,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-dev-shm-usage", "--autoplay-policy=no-user-gesture-required"],
});
let result = {};
const tab = await browser.newPage();
const began = Date.now();
try {
  await tab.goto(`http://127.0.0.1:${server.address().port}/`);
  const later = (from) => tab.waitForFunction((t) => errors.length > 0 || state().time > t, from, { timeout: 18000 });
  await later(0);
  const first = await tab.evaluate(() => state());
  const startup = Date.now() - began;
  await later(first.time + 2);
  const windows = [];
  while (clock && windows.length < WINDOWS_MAX && !(await tab.evaluate(() => errors.length))) {
    const seen = await tab.evaluate(watchClock, { clock, windowMs: WINDOW_MS });
    windows.push(seen);
    // Twice in a row, so that it is no accident.
    const isSoon = (seen) => seen.pictures > 0 && seen.glass <= SOON_MS && seen.latency <= SOON_MS;
    if (windows.length > 1 && windows.slice(-2).every(isSoon)) break;
  }
  await tab.screenshot({ path: screenshot });
  result = { first: first.time, startup, windows, ...(await tab.evaluate(() => state())) };
} catch (error) {
  const state = await tab.evaluate(() => {
    const { readyState, buffered } = document.getElementById("v");
    return { ...window.state(), readyState, buffered: [...Array(buffered.length).keys()].map((at) => [buffered.start(at), buffered.end(at)]) };
  });
  result = { ...state, errors: [String(error), ...state.errors] };
} finally {
  await browser.close();
  server.close();
}
console.log(JSON.stringify(result));
