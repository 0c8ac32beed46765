// The npm package `pusher`, the server's SDK: each route of the HTTP API.
import Pusher from 'pusher'
import { config, say } from './common.mjs'

const server = new Pusher({
  appId: config.id,
  key: config.key,
  secret: config.secret,
  host: config.host,
  port: String(config.port),
  useTLS: false,
  encryptionMasterKeyBase64: Buffer.alloc(32, 7).toString('base64'),
})

const read = async (path, params) => {
  const answer = await server.get({ path, params })
  return { status: answer.status, body: await answer.json() }
}

const triggered = await server.trigger(['news', 'presence-room'], 'first', { a: 1 }, { info: 'subscription_count,user_count' })
say('trigger', { status: triggered.status, body: await triggered.json() })
const batch = await server.triggerBatch([
  { channel: 'news', name: 'second', data: { b: 2 } },
  { channel: 'news', name: 'third', data: 'text \u00e9 / "' },
])
say('batch', { status: batch.status, body: await batch.json() })
await server.trigger('private-encrypted-secret', 'hidden', { c: 3 })
say('channels', await read('/channels', { info: 'subscription_count' }))
say('channel', await read('/channels/news', { info: 'subscription_count' }))
say('users', await read('/channels/presence-room/users', {}))
const excluded = await server.trigger('news', 'fourth', {}, { socket_id: config.socket_id })
say('excluded', { status: excluded.status })
const ended = await server.terminateUserConnections('7')
say('terminated', { status: ended.status })
try {
  await new Pusher({ ...config, appId: config.id, secret: 'wrong', port: String(config.port), useTLS: false }).trigger('x', 'y', {})
} catch (error) {
  say('unsigned', { status: error.status })
}
