// Sends the token, from the form or from the part of the address after "#", which never reaches a server or its log.

const field = document.getElementById("token");
const problem = document.getElementById("problem");

async function logIn() {
  const response = await fetch("/api/login", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ token: field.value.trim() }),
  });
  if (response.ok) {
    location.replace("/");
    return;
  }
  problem.textContent = (await response.json()).error;
  field.select();
}

document.getElementById("login").addEventListener("submit", (event) => {
  event.preventDefault();
  logIn();
});

if (location.hash.length > 1) {
  field.value = decodeURIComponent(location.hash.slice(1));
  history.replaceState(null, "", "/login");
  logIn();
} else if ((await fetch("/api/status")).ok) {
  location.replace("/"); // a link from another site does not send the cookie, but this request does
}
