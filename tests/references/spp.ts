/** What PyTorch gives for SPP on the Wanda 50 % models of the fixtures: all decoder linears, rank 16 or what of it divides the rows, scale 2, no dropout. */

export interface SppReference {
  /** The first linear of the first block: x, upstream gradient, A and b are 1, 1, 0.5 and 0.5 times numbers of the generator of seeds 21 to 24. */
  linear: {
    name: string;
    rank: number;
    zeros: number;
    y: number[];
    yNorm: number;
    toDown: number[];
    downNorm: number;
    toUp: number[];
    upNorm: number;
  };
  /** Numbers that are trained, and the loss of the calibration set before each of 30 full-batch steps of AdamW at 4e-3, and after the last. */
  trainable: number;
  losses: number[];
  /** Zeros of all linears, before and after. */
  zeros: number;
  /** Held-out perplexity before and after training. */
  perplexity: { before: number; after: number };
}

export const SPP_REFERENCES: Record<string, SppReference> = {
  "tiny-mixtral": {
    linear: {
      name: "self_attn.q_proj",
      rank: 16,
      zeros: 8192,
      y: [-0.4782953, 0.04087354, 0.1722332, -0.8236951, -0.4000307, -0.5391816, -0.6544844, -0.6260756],
      yNorm: 10.30949,
      toDown: [0.01233981, -0.01328793, 0.02233041, -0.01619607, -0.01996485, 0.004014578, -0.0005496922, -0.01050119],
      downNorm: 3.522896,
      toUp: [0.04750729, 0.02430858, -0.06135441, 0.1156582, 0.2892875, -0.06788709, 0.1413917, 0.1646829],
      upNorm: 3.555877,
    },
    trainable: 280064,
    losses: [
      0.8888622,
      0.8886162,
      0.8881484,
      0.8877007,
      0.8871343,
      0.8864495,
      0.8856487,
      0.8849081,
      0.8838684,
      0.8828289,
      0.8817419,
      0.8806474,
      0.8795273,
      0.8784595,
      0.8773741,
      0.8763316,
      0.8751626,
      0.8741679,
      0.8728235,
      0.8719604,
      0.8710157,
      0.8701023,
      0.8688548,
      0.867925,
      0.8669748,
      0.8660001,
      0.8649724,
      0.8639734,
      0.8628851,
      0.8618544,
      0.8608012,
    ],
    zeros: 1277952,
    perplexity: { before: 2.398112, after: 2.382518 },
  },
  "tiny-qwen2-moe": {
    linear: {
      name: "self_attn.q_proj",
      rank: 16,
      zeros: 8192,
      y: [-0.3091176, -0.2441182, -0.1233129, -0.5013583, -0.0883109, -0.4152395, -0.2056767, 0.168784],
      yNorm: 8.496827,
      toDown: [-0.06638104, -0.004834296, 0.04633833, 0.009002595, -0.005124661, -0.02557075, 0.006104253, -0.08854404],
      downNorm: 2.942328,
      toUp: [0.6014651, 0.4456849, -0.1806866, 0.1520419, 0.1722229, 0.02376888, 0.05692542, 0.02638263],
      upNorm: 3.082643,
    },
    trainable: 425728,
    losses: [
      0.9038447,
      0.9035315,
      0.9031044,
      0.902568,
      0.901896,
      0.9011191,
      0.9002364,
      0.8992986,
      0.898238,
      0.8971079,
      0.8957955,
      0.8946704,
      0.8933048,
      0.8922191,
      0.8911672,
      0.890127,
      0.889156,
      0.8881925,
      0.887265,
      0.886333,
      0.8855425,
      0.8847387,
      0.8839815,
      0.8832026,
      0.8823539,
      0.8815526,
      0.8807517,
      0.8798675,
      0.8790178,
      0.8781734,
      0.8773503,
    ],
    zeros: 1236992,
    perplexity: { before: 2.415513, after: 2.402663 },
  },
  "tiny-deepseek-v2": {
    linear: {
      name: "self_attn.q_proj",
      rank: 16,
      zeros: 12288,
      y: [0.1514114, -0.09837167, -0.06987046, -0.1626062, -0.02345556, 0.1855967, -0.4058253, -0.195241],
      yNorm: 8.496761,
      toDown: [-0.01957803, 0.003720479, -0.01732784, -0.003359162, 0.0002476076, -0.01855633, -0.04321874, 0.0175074],
      downNorm: 2.726369,
      toUp: [0.02204652, 0.05668989, 0.3204059, -0.01902234, -0.2268398, -0.06270346, -0.1546835, -0.01996901],
      upNorm: 2.59199,
    },
    trainable: 332224,
    losses: [
      0.9214169,
      0.9210161,
      0.9204757,
      0.9197624,
      0.9188801,
      0.9177394,
      0.9167539,
      0.9153185,
      0.9138291,
      0.9122274,
      0.9105639,
      0.9087985,
      0.907035,
      0.9053102,
      0.9036406,
      0.9021855,
      0.9007004,
      0.899344,
      0.8979854,
      0.8969287,
      0.8959493,
      0.8949912,
      0.894094,
      0.8931768,
      0.8921713,
      0.8912576,
      0.8902864,
      0.8893702,
      0.8884905,
      0.8875699,
      0.8866899,
    ],
    zeros: 1001472,
    perplexity: { before: 2.472761, after: 2.430576 },
  },
};
