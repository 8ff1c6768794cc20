/* Passkeys: asks the browser for a signature, puts it into the form and sends that. Without script, and
   without passkeys, the form's field for a code is all there is. */
"use strict";

const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer)))
  .replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
const known = (list) => (list || []).map((each) => ({ ...each, id: bytes(each.id) }));

async function asked(form, where, fields) {
  const body = new URLSearchParams({ ...fields, csrfmiddlewaretoken: form.elements.csrfmiddlewaretoken.value });
  const answer = await fetch(where, { method: "POST", body, credentials: "same-origin", redirect: "error" });
  if (!answer.ok) throw new Error(`${where} answered ${answer.status}`);
  return answer.json();
}

/* A signature of the person's own passkey for what the page names. */
async function proved(form, where, ask) {
  const options = await asked(form, where, { ask });
  const found = await navigator.credentials.get({ publicKey: {
    ...options, challenge: bytes(options.challenge), allowCredentials: known(options.allowCredentials),
  } });
  return JSON.stringify({ id: found.id, rawId: text(found.rawId), type: found.type, response: {
    clientDataJSON: text(found.response.clientDataJSON),
    authenticatorData: text(found.response.authenticatorData),
    signature: text(found.response.signature),
  } });
}

/* A new passkey, and the question that one there is already proves that it may be added. */
async function made(form, where) {
  const { make, ask } = await asked(form, where, {});
  const found = await navigator.credentials.create({ publicKey: {
    ...make, challenge: bytes(make.challenge), user: { ...make.user, id: bytes(make.user.id) },
    excludeCredentials: known(make.excludeCredentials),
  } });
  return { ask, answer: JSON.stringify({ id: found.id, rawId: text(found.rawId), type: found.type, response: {
    clientDataJSON: text(found.response.clientDataJSON),
    attestationObject: text(found.response.attestationObject),
    transports: found.response.getTransports ? found.response.getTransports() : [],
  } }) };
}

function pressed(button, deed) {
  const form = button.form, said = button.parentElement.querySelector("[data-said]");
  button.hidden = false;
  button.addEventListener("click", async () => {
    said.textContent = "";
    button.disabled = true;
    try {
      await deed(form);
      /* The form's own button says what is confirmed. */
      const main = form.querySelector("button.main:not([type=button])");
      if (main) form.requestSubmit(main); else form.submit();
    } catch {
      said.textContent = said.dataset.said;
    } finally {
      button.disabled = false;
    }
  });
}

if (window.PublicKeyCredential) {
  for (const form of document.querySelectorAll("[data-passkey-form]")) form.hidden = false;
  for (const button of document.querySelectorAll("[data-prove]")) {
    pressed(button, async (form) => {
      form.elements.passkey.value = await proved(form, button.dataset.at, button.dataset.prove);
    });
  }
  for (const button of document.querySelectorAll("[data-make]")) {
    pressed(button, async (form) => {
      const { ask, answer } = await made(form, button.dataset.make);
      form.elements.made.value = answer;
      const code = form.elements.code;
      if (ask && !(code && code.value)) form.elements.passkey.value = await proved(form, button.dataset.at, ask);
    });
  }
}
