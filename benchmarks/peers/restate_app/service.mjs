// The processor of the `restate` peer: a workflow for each order, which runs for as long as the order is live.

import http from "node:http";
import * as restate from "@restatedev/restate-sdk";

// The SDK takes this for granted; Node has it since version 22.
Promise.withResolvers ??= function () {
  const parts = {};
  parts.promise = new this((resolve, reject) => Object.assign(parts, { resolve, reject }));
  return parts;
};

// The orders whose workflow runs in this process now, each with the attempt that runs.
const running = new Map();
// How many notes of each order have been taken here.
const notes = new Map();

function opened(order, attempt) {
  running.set(order, attempt);
  attempt.attemptCompletedSignal.addEventListener("abort", () => {
    if (running.get(order) === attempt) running.delete(order);
  });
  process.stderr.write(`${new Date().toISOString()} INFO  Request type: workflow  order_req_id=${order}\n`);
}

const orders = restate.workflow({
  name: "orders",
  // A live order has a live run, as it has a live stream elsewhere; by default a run is suspended after a minute.
  options: { inactivityTimeout: { hours: 1 } },
  handlers: {
    // Begins the order: its input is in the journal, and the stream of the order is this run.
    run: async (ctx) => {
      opened(ctx.key, ctx.request());
      await ctx.promise("closed");
    },
    // Keeps a note under its own name, once, however often it is sent.
    followup: async (ctx, note) => {
      await ctx.promise(`note-${note.follow_up_id}`).resolve(note);
      notes.set(ctx.key, (notes.get(ctx.key) ?? 0) + 1);
      return { success: true, order_req_id: ctx.key, follow_up_id: note.follow_up_id };
    },
    tracking: async (ctx) => {
      const closed = await ctx.promise("closed").peek();
      return { order_req_id: ctx.key, is_stream_active: closed === undefined };
    },
  },
});

await restate.serve({ services: [orders], port: Number(process.env.PEER_PORT) });

// What the benchmark looks at, beside Restate's own ports.
http
  .createServer((request, response) => {
    const counts = request.url === "/notes" ? Object.fromEntries(notes) : { running: running.size };
    response.setHeader("Content-Type", "application/json");
    response.end(JSON.stringify(counts));
  })
  .listen(Number(process.env.PEER_LOOK_PORT), "127.0.0.1");
