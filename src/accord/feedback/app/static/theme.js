// Light, dark, or as the system has it. Loaded before the first paint, so that no page flashes in the wrong one.
(() => {
  const KEY = "accord:theme";
  const root = document.documentElement;
  const read = () => { try { return localStorage.getItem(KEY); } catch { return null; } };
  const apply = (theme) => {
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
    else delete root.dataset.theme;
  };
  apply(read());
  const dark = () =>
    root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.addEventListener("click", (event) => {
    if (!event.target.closest?.("[data-theme-switch]")) return;
    const theme = dark() ? "light" : "dark";
    apply(theme);
    try { localStorage.setItem(KEY, theme); } catch { /* private windows may refuse; the page still switches */ }
  });
})();
