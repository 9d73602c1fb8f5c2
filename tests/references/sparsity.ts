/** What PyTorch 2.13.0 gives for sparse linears of the fixtures. Blocks are decoder layers; calibration and held-out tokens are those of the fixtures. */

export interface SparsityReference {
  /** Percent of outliers in each block: |w| · √(mean x²) above 5 times the mean of the block, of all linears that met tokens, dense model. */
  outliers: number[];
  /** Linears that met no token, by layer. */
  unseen: string[];
  /** OWL, λ = 0.08: sparsity of each block, by their mean. */
  owl: Record<string, number[]>;
  /** Exact zeros in the linears of each block, by what was done. */
  zeros: Record<string, number[]>;
  /** Held-out perplexity. "experts": routed experts only, half of their weights. */
  perplexity: Record<string, number>;
}

export const SPARSITY_REFERENCES: Record<string, SparsityReference> = {
  "tiny-mixtral": {
    "outliers": [
      1.223677,
      1.312099,
      0.4564368,
      1.267184,
    ],
    "unseen": [
      "2 experts/6/gate",
      "2 experts/6/up",
      "2 experts/6/down",
    ],
    "owl": {
      "0.5": [
        0.4703009,
        0.4537668,
        0.6137668,
        0.4621655,
      ],
      "0.7": [
        0.6703009,
        0.6537668,
        0.8137668,
        0.6621655,
      ],
    },
    "zeros": {
      "wanda 0.5": [
        319488,
        319488,
        319488,
        319488,
      ],
      "owl wanda 0.5": [
        299520,
        289536,
        389376,
        294016,
      ],
      "wanda 0.7": [
        444800,
        444800,
        444800,
        444800,
      ],
      "owl wanda 0.7": [
        424832,
        414848,
        519168,
        420352,
      ],
      "sparsegpt 0.5": [
        319488,
        319488,
        319488,
        319488,
      ],
      "owl sparsegpt 0.5": [
        300498,
        289926,
        392148,
        295308,
      ],
      "sparsegpt 0.7": [
        447268,
        447268,
        447268,
        447268,
      ],
      "owl sparsegpt 0.7": [
        428298,
        417716,
        519964,
        423088,
      ],
    },
    "perplexity": {
      "wanda 0.5": 2.398112,
      "owl wanda 0.5": 2.473045,
      "wanda 0.7": 3.141862,
      "owl wanda 0.7": 3.520918,
      "sparsegpt 0.5": 2.383467,
      "owl sparsegpt 0.5": 2.420755,
      "sparsegpt 0.7": 2.842452,
      "owl sparsegpt 0.7": 3.313338,
      "moe-pruner 0.5": 2.400651,
      "experts wanda 0.5": 2.38643,
      "experts moe-pruner 0.5": 2.38998,
    },
  },
  "tiny-qwen2-moe": {
    "outliers": [
      1.298957,
      0.7256312,
      0.7912743,
      1.700739,
    ],
    "unseen": [],
    "owl": {
      "0.5": [
        0.4721373,
        0.5662112,
        0.5554402,
        0.4062112,
      ],
      "0.7": [
        0.6721373,
        0.7662112,
        0.7554402,
        0.6062112,
      ],
    },
    "zeros": {
      "wanda 0.5": [
        309248,
        309248,
        309248,
        309248,
      ],
      "owl wanda 0.5": [
        288896,
        347904,
        342208,
        246720,
      ],
      "wanda 0.7": [
        430912,
        430912,
        430912,
        430912,
      ],
      "owl wanda 0.7": [
        413952,
        472960,
        463872,
        371776,
      ],
      "sparsegpt 0.5": [
        309248,
        309248,
        309248,
        309248,
      ],
      "owl sparsegpt 0.5": [
        291978,
        350195,
        343501,
        251208,
      ],
      "sparsegpt 0.7": [
        432943,
        432943,
        432943,
        432943,
      ],
      "owl sparsegpt 0.7": [
        415679,
        473895,
        467201,
        374909,
      ],
    },
    "perplexity": {
      "wanda 0.5": 2.415513,
      "owl wanda 0.5": 2.422788,
      "wanda 0.7": 2.882466,
      "owl wanda 0.7": 2.963736,
      "sparsegpt 0.5": 2.401878,
      "owl sparsegpt 0.5": 2.399069,
      "sparsegpt 0.7": 2.8015,
      "owl sparsegpt 0.7": 2.638759,
      "moe-pruner 0.5": 2.414829,
      "experts wanda 0.5": 2.40977,
      "experts moe-pruner 0.5": 2.407439,
    },
  },
  "tiny-deepseek-v2": {
    "outliers": [
      0.5114433,
      0.8914388,
      0.7729311,
      0.9930013,
    ],
    "unseen": [
      "2 experts/5/gate",
      "2 experts/5/up",
      "2 experts/5/down",
      "2 experts/13/gate",
      "2 experts/13/up",
      "2 experts/13/down",
    ],
    "owl": {
      "0.5": [
        0.593284,
        0.4670286,
        0.5064034,
        0.433284,
      ],
      "0.7": [
        0.793284,
        0.6670286,
        0.7064034,
        0.633284,
      ],
    },
    "zeros": {
      "wanda 0.5": [
        79872,
        307200,
        307200,
        307200,
      ],
      "owl wanda 0.5": [
        93696,
        283456,
        307328,
        263104,
      ],
      "wanda 0.7": [
        111104,
        427968,
        427968,
        427968,
      ],
      "owl wanda 0.7": [
        126208,
        407744,
        431360,
        387392,
      ],
      "sparsegpt 0.5": [
        79872,
        307200,
        307200,
        307200,
      ],
      "owl sparsegpt 0.5": [
        94770,
        286918,
        311103,
        266165,
      ],
      "sparsegpt 0.7": [
        111816,
        430077,
        430077,
        430077,
      ],
      "owl sparsegpt 0.7": [
        126719,
        409800,
        433983,
        389044,
      ],
    },
    "perplexity": {
      "wanda 0.5": 2.472761,
      "owl wanda 0.5": 2.532358,
      "wanda 0.7": 3.008904,
      "owl wanda 0.7": 4.596443,
      "sparsegpt 0.5": 2.450495,
      "owl sparsegpt 0.5": 2.517577,
      "sparsegpt 0.7": 2.989457,
      "owl sparsegpt 0.7": 3.64306,
      "moe-pruner 0.5": 2.471198,
      "experts wanda 0.5": 2.416292,
      "experts moe-pruner 0.5": 2.416054,
    },
  },
};
