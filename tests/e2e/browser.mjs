// Plays a live FLV stream with mpegts.js in headless Chromium and prints, as JSON, how that went.
// Usage: node browser.mjs MODULES CHROMIUM STREAM_URL SCREENSHOT
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import http from "node:http";
import path from "node:path";

const [modules, chromium, streamUrl, screenshot] = process.argv.slice(2);
const require = createRequire(path.join(path.resolve(modules), "x.js"));
const playwright = require("playwright-core");
const player = readFileSync(path.join(modules, "mpegts.js", "dist", "mpegts.js"));

const page = `<!doctype html><body style="margin:0;background:#333"><video id="v" muted autoplay playsinline width="640"></video>
<script src="/mpegts.js"></script><script>
window.errors = [];
var video = document.getElementById("v");
video.onerror = () => errors.push("video: " + (video.error && video.error.message));
const player = mpegts.createPlayer({ type: "flv", isLive: true, url: ${JSON.stringify(streamUrl)} });
player.on(mpegts.Events.ERROR, (type, detail, info) => errors.push([type, detail, JSON.stringify(info)].join(" ")));
player.on(mpegts.Events.MEDIA_INFO, (info) => { window.media = { mime: info.mimeType, audio: info.hasAudio, video: info.hasVideo }; });
player.attachMediaElement(video); player.load(); player.play().catch((error) => errors.push(String(error)));
window.state = () => ({ time: video.currentTime, width: video.videoWidth, height: video.videoHeight, media: window.media, errors });
</script>`;

const server = http.createServer((request, response) => {
  const isPlayer = request.url === "/mpegts.js";
  response.setHeader("Content-Type", isPlayer ? "text/javascript" : "text/html");
  response.end(isPlayer ? player : page);
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
try {
  await tab.goto(`http://127.0.0.1:${server.address().port}/`);
  const later = (from) => tab.waitForFunction((t) => errors.length > 0 || state().time > t, from, { timeout: 40000 });
  await later(0);
  const first = await tab.evaluate(() => state());
  await later(first.time + 2);
  await tab.screenshot({ path: screenshot });
  result = { first: first.time, ...(await tab.evaluate(() => state())) };
} catch (error) {
  const state = await tab.evaluate(() => ({ ...window.state(), ready: video.readyState, buffered: video.buffered.length }));
  result = { ...state, errors: [String(error), ...state.errors] };
} finally {
  await browser.close();
  server.close();
}
console.log(JSON.stringify(result));
