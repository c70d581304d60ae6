import { render } from 'preact'
import './styles/tokens.css'
import './styles/base.css'
import './styles/topology.css'
import { App } from './app'
import { start } from './live'

start()
render(<App />, document.getElementById('app')!)
