"use strict";
// The page watches itself: what goes wrong, and what it asks the network for, stands on <html>, where a test can read it.
(function () {
  const root = document.documentElement;
  const errors = [];
  function note(what) {
    errors.push(String(what).slice(0, 300));
    root.dataset.errors = errors.length;
    root.dataset.errorText = errors.join("\n");
  }
  root.dataset.errors = 0;
  window.addEventListener("error", (event) => note(event.message || "a resource did not load"), true);
  window.addEventListener("unhandledrejection", (event) => note(event.reason));
  document.addEventListener("securitypolicyviolation", (event) => note("refused by policy: " + event.violatedDirective));
  window.addEventListener("load", () => {
    root.dataset.requests = performance.getEntriesByType("resource").length;
  });
})();
