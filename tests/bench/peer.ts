import type { Peer, Row, Scale } from "./row.ts";

/** Where the peers are and how they run. */
export interface Peers {
  python: string;
  folder: string;
  /** For checkpoints that they write. */
  cache: string;
  device: "cpu" | "cuda";
  threads: number;
  scale: Scale;
}

/** What a peer's line says. */
export interface PeerResult {
  /** Median and least seconds of a unit in this process, */
  seconds: number;
  seconds_min: number;
  /** and those of the work before. */
  setup_seconds?: number;
  check?: number;
  peak_rss_bytes: number;
  torch: string;
}

/** The folder of the peers and their Python, from the environment. @throws {Error} In a sentence, if one is not there. */
export async function findPeers(): Promise<{ python: string; folder: string; torch: string }> {
  const python = Deno.env.get("WINNOW_PYTHON"), folder = Deno.env.get("WINNOW_PEERS");
  if (!python) throw new Error("WINNOW_PYTHON is not set: expected the path of a Python that has torch and transformers");
  if (!folder) throw new Error("WINNOW_PEERS is not set: expected the folder with the PyTorch programs, such as search.py");
  const there = await Deno.stat(`${folder}/search.py`).then(({ isFile }) => isFile, () => false);
  if (!there) throw new Error("WINNOW_PEERS names a folder without search.py: expected the folder with the PyTorch programs");
  const code = "import torch, transformers; print(torch.__version__)";
  const found = await new Deno.Command(python, { args: ["-c", code], stderr: "null" }).output().catch(() => undefined);
  if (!found?.success) throw new Error("WINNOW_PYTHON names no Python that can import torch and transformers");
  return { python, folder, torch: new TextDecoder().decode(found.stdout).trim() };
}

/** Runs a peer once, in a process of its own. @returns Its result, or why there is none. */
export async function runPeer(peers: Peers, { program, flags }: Row, peer: Peer): Promise<PeerResult | string> {
  const { folder, python, cache, device, threads, scale } = peers;
  const common = { peer: peer.name, scale, device, threads, repeat: peer.repeat, dtype: "float32" };
  const args = [`${folder}/${program}.py`, ...Object.entries(common).map(([key, value]) => `--${key}=${value}`)];
  // The folder may be read-only, and is not ours.
  const env = { PEER_CACHE: cache, PYTHONDONTWRITEBYTECODE: "1" };
  const { success, stdout, stderr } = await new Deno.Command(python, { args: [...args, ...flags, ...peer.flags ?? []], env }).output();
  if (!success) return new TextDecoder().decode(stderr).trim().split("\n").at(-1) || "failed without a message";
  const result = JSON.parse(new TextDecoder().decode(stdout)), { factor } = peer.sample ?? { factor: 1 };
  return {
    ...result,
    seconds: result.seconds * factor,
    seconds_min: result.seconds_min * factor,
    setup_seconds: peer.unprepared ? undefined : result.setup_seconds,
    // A part of the work has no sum over all of it.
    check: peer.sample ? undefined : [result.check].flat().reduce((a: number, b: number) => a + b),
  };
}
