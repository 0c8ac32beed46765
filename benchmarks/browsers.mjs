// An application over TLS as HTTP/1.1 and as HTTP/2, the same handler behind both. Prints the ports as JSON; each line on standard
// input asks for what has happened since the last one. Ends with its standard input.
//     node browsers.mjs CERTIFICATE KEY BYTES MILLISECONDS

import { readFileSync } from 'node:fs'
import http2 from 'node:http2'
import https from 'node:https'
import readline from 'node:readline'

const [cert, key, bytes, service] = process.argv.slice(2)
const options = { cert: readFileSync(cert), key: readFileSync(key) }
const body = JSON.stringify({ version: 1, text: 'x'.repeat(bytes - 25) })
// What Laravel's session and CSRF cookies weigh.
const cookies = [`laravel_session=${'s'.repeat(340)}; Path=/`, `XSRF-TOKEN=${'t'.repeat(340)}; Path=/`]

function handle (request, response) {
  if (request.url === '/') {
    response.writeHead(200, { 'content-type': 'text/html', 'set-cookie': cookies })
    return response.end('<!doctype html><link rel=icon href="data:,">')
  }
  setTimeout(() => {
    response.writeHead(200, { 'content-type': 'application/json', 'cache-control': 'no-store' })
    response.end(body)
  }, service)
}

const servers = { http1: https.createServer(options, handle), http2: http2.createSecureServer(options, handle) }
const sockets = { http1: new Set(), http2: new Set() }
const gone = { http1: [0, 0], http2: [0, 0] }
for (const [name, server] of Object.entries(servers)) {
  server.on('connection', socket => { // below TLS: what is on the wire
    sockets[name].add(socket)
    socket.on('close', () => {
      sockets[name].delete(socket)
      gone[name][0] += socket.bytesRead
      gone[name][1] += socket.bytesWritten
    })
  })
  server.listen(0, '127.0.0.1')
}

const totals = () => Object.fromEntries(Object.keys(servers).map(name => {
  const [read, written] = gone[name]
  const open = [...sockets[name]]
  const sum = member => open.reduce((total, socket) => total + socket[member], 0)
  return [name, { connections: open.length, received: read + sum('bytesRead'), sent: written + sum('bytesWritten') }]
}))

setTimeout(() => console.log(JSON.stringify(Object.fromEntries(Object.entries(servers).map(([n, s]) => [n, s.address().port])))), 100)
readline.createInterface({ input: process.stdin })
  .on('line', () => console.log(JSON.stringify({ ...totals(), cpu: Object.values(process.cpuUsage()).reduce((a, b) => a + b) / 1e6 })))
  .on('close', () => process.exit(0))
