import { readFileSync } from 'node:fs'
import { defineConfig, type Plugin } from 'vite'

// The control plane that `npm run dev` shows: TULLE_DASHBOARD, or the default address.
const backend = process.env.TULLE_DASHBOARD ?? 'http://127.0.0.1:9441'

// The licences of the libraries that are in the build, beside it.
const libraries = ['@dagrejs/dagre', '@dagrejs/graphlib', 'preact', 'uplot']
const licences: Plugin = {
  name: 'licences',
  generateBundle() {
    const source = libraries.map((name) => {
      const read = (file: string) => readFileSync(`node_modules/${name}/${file}`, 'utf8')
      return `${name} ${JSON.parse(read('package.json')).version}\n\n${read('LICENSE').trim()}\n`
    })
    this.emitFile({ type: 'asset', fileName: 'licences.txt', source: source.join('\n----\n\n') })
  },
}

export default defineConfig({
  plugins: [licences],
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
