import { render } from 'preact'
import './styles/tokens.css'
import './styles/base.css'
import './styles/topology.css'
import { App } from './app'
import { begin } from './session'

void begin()
render(<App />, document.getElementById('app')!)
