// Before the first paint: the theme that was chosen here, if one was.
try {
  var theme = localStorage.getItem('tulle-theme')
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme
} catch (e) {
  // without storage the system's theme holds
}
