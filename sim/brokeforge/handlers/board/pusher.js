// A small client of the Pusher protocol 7: private channels, pings, a new connection when one is lost.

const PROTOCOL = 7;
const RETRY = 1000; // ms
const PONG_TIMEOUT = 10_000; // ms

export class Pusher {
  /** `url`: ws://host:port/app/key. `authorise(socketId, channel)`: resolves to {auth, channel_data?}. `onState(text)`. */
  constructor(url, authorise, onState = () => {}) {
    Object.assign(this, { url, authorise, onState });
    this.channels = new Map(); // wire name -> Map(event -> listener)
    this.closed = false;
    this.connect();
  }

  connect() {
    this.onState("connecting");
    this.socketId = null;
    this.socket = new WebSocket(`${this.url}?protocol=${PROTOCOL}&client=board&version=1`);
    this.socket.onmessage = (message) => this.receive(JSON.parse(message.data));
    this.socket.onclose = () => {
      clearTimeout(this.idle);
      this.socketId = null;
      if (this.closed) return;
      this.onState("disconnected");
      setTimeout(() => this.closed || this.connect(), RETRY);
    };
  }

  /** Listen to `event` on `channel` (wire names). What happened while nobody listened is lost: refetch on "subscribed". */
  subscribe(channel, event, listener) {
    const known = this.channels.has(channel);
    if (!known) this.channels.set(channel, new Map());
    this.channels.get(channel).set(event, listener);
    if (!known && this.socketId) this.join(channel);
  }

  unsubscribe(channel) {
    if (this.channels.delete(channel) && this.socketId) this.send("pusher:unsubscribe", { channel });
  }

  close() {
    this.closed = true;
    this.socket.close();
  }

  async join(channel) {
    const socketId = this.socketId;
    try {
      const auth = await this.authorise(socketId, channel);
      // The connection may be another one by now, or the channel no longer wanted.
      if (socketId === this.socketId && this.channels.has(channel)) this.send("pusher:subscribe", { channel, ...auth });
    } catch (error) {
      this.onState(`refused: ${channel} (${error.message})`);
    }
  }

  receive(frame) {
    this.watch();
    const data = typeof frame.data === "string" ? parse(frame.data) : frame.data;
    switch (frame.event) {
      case "pusher:connection_established":
        this.socketId = data.socket_id;
        this.patience = 1000 * (data.activity_timeout ?? 30);
        this.watch();
        this.onState("connected");
        for (const channel of this.channels.keys()) this.join(channel);
        return;
      case "pusher:ping":
        this.send("pusher:pong", {});
        return;
      case "pusher:pong":
        return;
      case "pusher:error":
        this.onState(`error ${data?.code ?? ""}: ${data?.message ?? ""}`);
        return;
      case "pusher_internal:subscription_succeeded":
        this.channels.get(frame.channel)?.get("subscribed")?.(data);
        return;
    }
    this.channels.get(frame.channel)?.get(frame.event)?.(data, frame.channel);
  }

  /** After a silence of `patience` ask whether the other side is still there. */
  watch() {
    clearTimeout(this.idle);
    this.idle = setTimeout(() => {
      this.send("pusher:ping", {});
      this.idle = setTimeout(() => this.socket.close(), PONG_TIMEOUT);
    }, this.patience ?? 30_000);
  }

  send(event, data) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ event, data }));
  }
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text; // as pusher-js: what is no JSON stays the text it is
  }
}
