import type { Device } from "../../lib/device/device.ts";
import { type PeerResult, type Peers, runPeer } from "./peer.ts";
import type { Round, Row } from "./row.ts";
import { type Yardstick, yardstick } from "./yardstick.ts";

/** What all rounds of a row found. */
export interface Measured {
  row: Row;
  rounds: Round[];
  /** Best of all rounds. */
  best: Yardstick;
  /** By name of the peer, a result a round, or why there is none. */
  peers: Map<string, PeerResult[] | string>;
}

/** Takes turns: the yardstick, ours, one peer after the other, and again, so that a machine whose speed drifts treats all alike. */
export async function measure(device: Device, row: Row, rounds: number, folder: string, peers?: Peers): Promise<Measured> {
  using prepared = await row.prepare(device, folder);
  const measured: Measured = { row, rounds: [], best: { flops: 0, bytes: 0 }, peers: new Map() };
  for (let round = 0; round < rounds; round++) {
    const now = await yardstick(device), { best } = measured;
    measured.best = { flops: Math.max(best.flops, now.flops), bytes: Math.max(best.bytes, now.bytes) };
    measured.rounds.push(await prepared.round());
    for (const peer of peers ? row.peers : []) {
      const name = peer.sample ? `${peer.name} (${peer.sample.of})` : peer.name, known = measured.peers.get(name) ?? [];
      if (typeof known === "string") continue; // what fails once fails again
      const result = await runPeer(peers!, row, peer);
      measured.peers.set(name, typeof result === "string" ? result : [...known, result]);
    }
  }
  return measured;
}
