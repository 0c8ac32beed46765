// pusher-js by itself: public, private, presence and encrypted channels, client events, cache channels.
import Pusher from 'pusher-js'
import nacl from 'tweetnacl'
import { config, connection, onCommand, say } from './common.mjs'

// `nacl` is what the build with encryption adds; it has no Node variant of its own.
const client = new Pusher(config.key, { ...connection, nacl, channelAuthorization: { endpoint: config.auth, transport: 'ajax' } })

client.connection.bind('state_change', ({ current }) => say('state', { state: current }))
client.connection.bind('connected', () => say('connected', { socket_id: client.connection.socket_id }))
client.connection.bind('error', (error) => say('error', { error: error?.data ?? error?.error?.data ?? error }))

onCommand({
  subscribe({ channel }) {
    const subscription = client.subscribe(channel)
    subscription.bind_global((event, data) => {
      if (event === 'pusher:subscription_succeeded' && channel.startsWith('presence-')) {
        data = { count: data.count, me: data.myID, members: data.members }
      }
      say('event', { channel, event, data })
    })
  },
  unsubscribe({ channel }) {
    client.unsubscribe(channel)
    say('unsubscribed', { channel })
  },
  trigger({ channel, event, data }) {
    say('triggered', { sent: client.channel(channel).trigger(event, data) })
  },
  disconnect() {
    client.disconnect()
  },
})
