// What the scripts share: their configuration, one line of JSON for each thing that happens, commands on standard input.
import { createInterface } from 'node:readline'

export const config = JSON.parse(process.argv[2])

export function say(what, more = {}) {
  process.stdout.write(JSON.stringify({ what, ...more }) + '\n')
}

export function onCommand(commands) {
  createInterface({ input: process.stdin }).on('line', (line) => {
    const { command, ...options } = JSON.parse(line)
    commands[command](options)
  })
}

// pusher-js's settings for a server of one's own, as Laravel Echo makes them for `reverb`.
export const connection = {
  cluster: '',
  wsHost: config.host,
  wsPort: config.port,
  forceTLS: false,
  enabledTransports: ['ws'],
  enableStats: false,
}
