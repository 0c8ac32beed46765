// Records what the real debounce libraries do with sequences of actions, in the format of tests/data/debounce-vectors.json.
// Standard input: sequences without results. Standard output: the same, with results.
import { readFileSync } from 'node:fs'
import FakeTimers from '@sinonjs/fake-timers'
import lodash from 'lodash'
import lodashDebounce from 'lodash.debounce'
import React from 'react'
import renderer from 'react-test-renderer'
import { useDebouncedCallback, useThrottledCallback } from 'use-debounce'

const START = 1_700_000_000_000 // use-debounce takes a last call at 0 for none
globalThis.window = {} // without it use-debounce believes to be on a server
globalThis.IS_REACT_ACT_ENVIRONMENT = true
console.error = () => {} // react-test-renderer says that it is deprecated

// One clock for all sequences, and one lodash, which keeps the clock that it finds when it is made: to make either takes longer than
// a sequence. Each begins where the one before has ended, when no timer is left.
const clock = FakeTimers.install({ now: START, toFake: ['Date', 'setTimeout', 'clearTimeout'] })
const { Date, setTimeout, clearTimeout } = globalThis
const fresh = lodash.runInContext({ Date, setTimeout, clearTimeout })

const makers = {
  'lodash@4.18.1 debounce': fresh.debounce,
  'lodash@4.18.1 throttle': fresh.throttle,
  'lodash.debounce@4.0.8': lodashDebounce,
}

const hooks = {
  'use-debounce@10.1.1 useDebouncedCallback': useDebouncedCallback,
  'use-debounce@10.1.1 useThrottledCallback': useThrottledCallback,
}

function make(library, wrapped, { wait, options }) {
  if (library in hooks) {
    let made
    const Component = () => ((made = hooks[library](wrapped, wait, options)), null)
    let tree
    renderer.act(() => (tree = renderer.create(React.createElement(Component))))
    return { call: made, unmount: () => renderer.act(() => tree.unmount()) }
  }
  return { call: makers[library](wrapped, wait, options) }
}

function record(library, sequence) {
  const start = Date.now()
  const result = { fire_times: [], fires: [], call_returns: [] }
  let via = 'timer'
  const wrapped = (arg) => {
    const t = Date.now() - start
    result.fire_times.push(t)
    result.fires.push({ t, arg, via })
    return `R:${arg}`
  }
  const { call, unmount } = make(library, wrapped, sequence)
  if (call.isPending) result.pending_after_step = []
  const act = ({ op, arg }) => {
    via = op
    if (op === 'call') result.call_returns.push(call(arg) ?? null)
    if (op === 'flush') result.call_returns.push(call.flush() ?? null)
    if (op === 'cancel') call.cancel()
    if (op === 'unmount') unmount()
    via = 'timer'
    if (call.isPending) result.pending_after_step.push(call.isPending())
  }
  const instants = Map.groupBy?.(sequence.actions, ({ t }) => t) ?? grouped(sequence.actions)
  if (sequence.order === 'call-first') {
    for (const [t, actions] of instants) setTimeout(() => actions.forEach(act), t)
  } else {
    for (const [t, actions] of instants) {
      clock.tick(start + t - Date.now())
      actions.forEach(act)
    }
  }
  clock.tick(start + sequence.until - Date.now())
  if (call.isPending) result.pending_at_end = call.isPending()
  return result
}

function grouped(actions) {
  const groups = new Map()
  for (const action of actions) groups.set(action.t, [...(groups.get(action.t) ?? []), action])
  return groups
}

const { vectors } = JSON.parse(readFileSync(0, 'utf8'))
for (const sequence of vectors) {
  sequence.results = Object.fromEntries(sequence.libraries.map((library) => [library, record(library, sequence)]))
}
process.stdout.write(JSON.stringify({ vectors }))
