// A page of the pattern in a browser: useEcho hears of a change, a debounced callback fetches the whole resource again.
import { configureEcho, useConnectionStatus, useEcho } from '@laravel/echo-react'
import { useEffect, useState } from 'react'
import { createRoot } from 'react-dom/client'
import { useDebouncedCallback } from 'use-debounce'

const { key, host, port, server, token, wait } = window.workbench
const tell = (what, more = {}) => fetch('/tell', { method: 'POST', body: JSON.stringify({ what, ...more }) })

configureEcho({
  broadcaster: 'reverb',
  key,
  wsHost: host,
  wsPort: port,
  forceTLS: false,
  enabledTransports: ['ws'],
  bearerToken: token,
})

function Server({ id }) {
  const [body, setBody] = useState(null)
  const [heard, setHeard] = useState(0)
  const status = useConnectionStatus()
  const { channel } = useEcho(`servers.${id}`, 'ServerUpdated', (event) => {
    setHeard((count) => count + 1)
    tell('notified', { event })
    refetch()
  })
  const refetch = useDebouncedCallback(async () => {
    const answer = await fetch(`/servers/${id}`, { headers: { Authorization: `Bearer ${token}`, Accept: 'application/json' } })
    const fresh = await answer.json()
    setBody(fresh)
    tell('refetched', { status: answer.status, body: fresh })
  }, wait)
  useEffect(() => {
    channel().subscribed(() => tell('subscribed'))
  }, [])
  useEffect(() => {
    tell('status', { status })
  }, [status])
  useEffect(() => {
    if (body) tell('shown', { text: document.body.innerText })
  }, [body])
  return <p>{`server ${id} version ${body?.version ?? 0} after ${heard}`}</p>
}

createRoot(document.getElementById('root')).render(<Server id={server} />)
