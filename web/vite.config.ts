import { defineConfig } from 'vite'

// The control plane that `npm run dev` shows: TULLE_DASHBOARD, or the default address.
const backend = process.env.TULLE_DASHBOARD ?? 'http://127.0.0.1:9441'

export default defineConfig({
  build: {
    outDir: '../internal/dashboard/dist',
    emptyOutDir: true,
    target: 'es2022',
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    assetsInlineLimit: 0, // the Content-Security-Policy allows files only
  },
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
  server: { proxy: { '/api': { target: backend, changeOrigin: true, headers: { origin: backend } } } },
})
