/* Reads a serial number from a QR or bar code into its field: from the camera where the browser gives one,
   or from a picture. Where the browser knows no codes nothing is offered, and the field is typed into as always. */
"use strict";

const LONGEST = 32;

/* Codes of meters are the bare number, or a text or address that names it. */
const serialOf = (raw) => {
  const named = /(?:^|[^A-Za-z0-9])(?:s\/?n|serial(?:[ _-]?(?:no|number))?)[=: ]+([A-Za-z0-9][A-Za-z0-9._-]*)/i.exec(raw);
  return (named ? named[1] : raw.trim()).slice(0, LONGEST);
};

async function begin(part) {
  const field = document.getElementById(part.dataset.scan);
  const say = part.querySelector("[role=status]");
  const video = part.querySelector("video");
  const detector = new BarcodeDetector();
  let stream = null;

  const stop = () => {
    stream?.getTracks().forEach((track) => track.stop());
    stream = null;
    video.hidden = true;
    part.querySelector("[data-stop]").hidden = true;
  };
  const take = (found) => {
    field.value = serialOf(found[0].rawValue);
    field.dispatchEvent(new Event("input", { bubbles: true }));
    say.textContent = part.dataset.read;
    stop();
    field.focus();
  };
  const look = async () => {
    if (!stream) return;
    const found = await detector.detect(video).catch(() => []);
    if (found.length && stream) take(found);
    else setTimeout(look, 150);
  };

  const camera = part.querySelector("[data-camera]");
  camera.hidden = !navigator.mediaDevices?.getUserMedia;
  camera.addEventListener("click", async () => {
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    } catch {
      say.textContent = part.dataset.refused;
      return;
    }
    video.srcObject = stream;
    video.hidden = false;
    part.querySelector("[data-stop]").hidden = false;
    say.textContent = part.dataset.hold;
    await video.play();
    look();
  });
  part.querySelector("[data-stop]").addEventListener("click", () => { stop(); say.textContent = ""; });
  part.querySelector("input[type=file]").addEventListener("change", async (event) => {
    const [file] = event.target.files;
    if (!file) return;
    const found = await createImageBitmap(file).then((image) => detector.detect(image)).catch(() => []);
    if (found.length) take(found);
    else say.textContent = part.dataset.nothing;
    event.target.value = "";
  });
  window.addEventListener("pagehide", stop);
  part.hidden = false;
}

document.addEventListener("DOMContentLoaded", async () => {
  if (!("BarcodeDetector" in window)) return;
  const known = await BarcodeDetector.getSupportedFormats().catch(() => []);
  if (known.length) for (const part of document.querySelectorAll("[data-scan]")) begin(part);
});
