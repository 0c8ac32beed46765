// Laravel Echo as the pattern's pages use it.
import Echo from 'laravel-echo'
import Pusher from 'pusher-js'
import { config, connection, onCommand, say } from './common.mjs'

const echo = new Echo({
  ...connection,
  broadcaster: 'reverb',
  key: config.key,
  authEndpoint: config.auth,
  bearerToken: 'a-token',
  Pusher,
})

echo.connector.onConnectionChange?.((status) => say('status', { status }))
echo.connector.pusher.connection.bind('connected', () => say('connected', { socket_id: echo.socketId() }))

onCommand({
  listen({ channel, events }) {
    const subscription = echo.private(channel).subscribed(() => say('subscribed', { channel }))
    subscription.error((error) => say('refused', { channel, status: error.status }))
    for (const event of events) subscription.listen(event, (data) => say('heard', { channel, event, data }))
  },
  leave({ channel }) {
    echo.leave(channel)
    say('left', { channel })
  },
  join({ channel }) {
    echo
      .join(channel)
      .here((users) => say('here', { users }))
      .joining((user) => say('joining', { user }))
      .leaving((user) => say('leaving', { user }))
      .listenForWhisper('typing', (data) => say('whispered', { data }))
  },
  whisper({ channel, data }) {
    echo.join(channel).whisper('typing', data)
  },
})
