/** Gradients by PyTorch 2.13 and transformers 5.23 in float32: of the mean token loss of calibration sequences 0 and 1; norm and first four entries. */

export interface GradientFigures {
  norm: number;
  first: number[];
}

export const GRADIENTS: Record<string, Record<string, GradientFigures>> = {
  "tiny-mixtral": {
    "model.embed_tokens.weight": { norm: 0.06494767, first: [-0.0001500105, 0.0004762071, 7.095218e-05, 1.976194e-05] },
    "model.layers.0.self_attn.q_proj.weight": { norm: 0.004632869, first: [1.409314e-06, 1.337652e-05, 2.377237e-07, 4.539552e-06] },
    "model.layers.0.self_attn.k_proj.weight": { norm: 0.003160549, first: [1.760018e-05, -2.492381e-05, -3.210648e-05, 2.493712e-05] },
    "model.layers.0.self_attn.v_proj.weight": { norm: 0.02757102, first: [0.0003304045, 0.0002386097, 0.0002282929, -0.0001748439] },
    "model.layers.0.self_attn.o_proj.weight": { norm: 0.02405946, first: [-0.0001248788, -9.776571e-06, 6.659191e-05, 0.0001727514] },
    "model.layers.0.mlp.gate.weight": { norm: 0.04906777, first: [-0.0003328033, -6.350689e-05, 9.732018e-05, -0.0004107943] },
    "model.layers.0.mlp.experts.gate_up_proj": { norm: 0.06203288, first: [-5.775865e-05, -2.505955e-06, 4.776863e-05, -9.041204e-06] },
    "model.layers.0.mlp.experts.down_proj": { norm: 0.1802449, first: [-2.304725e-05, -0.0001309227, 0.0001618954, -2.016963e-05] },
    "model.layers.0.input_layernorm.weight": { norm: 0.00451811, first: [-0.0001668321, -0.0001362547, 0.0001432524, 0.000231893] },
    "model.layers.0.post_attention_layernorm.weight": {
      norm: 0.01022973,
      first: [0.0005527174, 0.0004294068, 0.0009294708, -0.0005777305],
    },
    "model.layers.1.self_attn.q_proj.weight": { norm: 0.04435738, first: [9.788007e-05, 7.572748e-05, 4.123188e-06, -8.897082e-05] },
    "model.layers.1.self_attn.k_proj.weight": { norm: 0.04649039, first: [-0.0001024014, -8.60671e-05, -0.0002728349, -0.0002459298] },
    "model.layers.1.self_attn.v_proj.weight": { norm: 0.05890447, first: [7.87821e-05, -2.772873e-05, 0.0001903174, 0.0004260665] },
    "model.layers.1.self_attn.o_proj.weight": { norm: 0.07564418, first: [-1.813752e-05, -2.384983e-05, -0.0001545718, 0.0003117698] },
    "model.layers.1.mlp.gate.weight": { norm: 0.009641028, first: [-3.787578e-05, -4.60748e-05, 0.0001141636, 2.197462e-05] },
    "model.layers.1.mlp.experts.gate_up_proj": { norm: 0.02817917, first: [-1.531833e-06, -3.096246e-06, 4.515082e-06, 6.735647e-07] },
    "model.layers.1.mlp.experts.down_proj": { norm: 0.03083206, first: [-1.356333e-06, 1.465879e-06, -3.636208e-07, -2.658519e-06] },
    "model.layers.1.input_layernorm.weight": { norm: 0.0145771, first: [0.0002956033, -0.000947305, 0.0003880834, -0.0005853949] },
    "model.layers.1.post_attention_layernorm.weight": {
      norm: 0.006689489,
      first: [-0.0001709714, -0.0008873389, -5.023195e-05, -4.701042e-05],
    },
    "model.norm.weight": { norm: 0.01059234, first: [-0.0007960381, -0.0007332234, -0.0006188667, -0.0006259996] },
    "lm_head.weight": { norm: 0.7040505, first: [2.638064e-05, -8.563884e-06, -1.680864e-05, -1.429619e-05] },
  },
  "tiny-qwen2-moe": {
    "model.embed_tokens.weight": { norm: 0.06341601, first: [-0.0004764613, -0.0001190959, 0.000656786, 0.0002576719] },
    "model.layers.0.self_attn.q_proj.weight": { norm: 0.009933366, first: [2.255225e-05, 3.160986e-05, 4.655147e-05, 4.76114e-05] },
    "model.layers.0.self_attn.q_proj.bias": { norm: 0.001689231, first: [-1.736774e-05, 5.160375e-05, 4.530947e-05, 5.099256e-05] },
    "model.layers.0.self_attn.k_proj.weight": { norm: 0.008036945, first: [6.296543e-06, 2.503773e-05, 5.831716e-06, 1.134172e-05] },
    "model.layers.0.self_attn.k_proj.bias": { norm: 0.001218552, first: [-2.62865e-05, 2.010467e-05, -3.955781e-05, -7.278786e-06] },
    "model.layers.0.self_attn.v_proj.weight": { norm: 0.02996604, first: [0.0001062547, -2.423071e-05, 4.499495e-05, -7.679059e-05] },
    "model.layers.0.self_attn.v_proj.bias": { norm: 0.01440784, first: [0.0007308479, -0.001654976, 0.001097205, -0.002273798] },
    "model.layers.0.self_attn.o_proj.weight": { norm: 0.056226, first: [0.0001041974, 5.932128e-05, -0.0001044298, -3.980818e-05] },
    "model.layers.0.mlp.gate.weight": { norm: 0.03755683, first: [-0.0006298305, -0.0006623263, -0.002054068, -0.0005303809] },
    "model.layers.0.mlp.experts.gate_up_proj": { norm: 0.02216763, first: [1.614934e-05, -2.158219e-05, -7.96985e-06, -2.549097e-05] },
    "model.layers.0.mlp.experts.down_proj": { norm: 0.06661591, first: [-3.054638e-06, 1.2066e-05, 7.214642e-05, -1.027214e-05] },
    "model.layers.0.mlp.shared_expert.gate_proj.weight": {
      norm: 0.03057725,
      first: [-8.142676e-05, -0.0004742427, 3.811123e-05, -9.990552e-05],
    },
    "model.layers.0.mlp.shared_expert.up_proj.weight": {
      norm: 0.02964486,
      first: [6.222211e-05, 3.869511e-05, 0.0002493013, 3.574678e-05],
    },
    "model.layers.0.mlp.shared_expert.down_proj.weight": {
      norm: 0.09080884,
      first: [0.0003920008, -0.0002644504, -0.0001130353, 0.0005419922],
    },
    "model.layers.0.mlp.shared_expert_gate.weight": { norm: 0.02707204, first: [0.001220298, -0.0001990489, -0.004519634, -0.003862108] },
    "model.layers.0.input_layernorm.weight": { norm: 0.004419105, first: [-0.0003706371, 0.0003733418, 0.0002029115, -0.0001073256] },
    "model.layers.0.post_attention_layernorm.weight": {
      norm: 0.005638844,
      first: [0.0007509449, 0.0005606284, 0.0006466942, -0.0001171907],
    },
    "model.layers.1.self_attn.q_proj.weight": { norm: 0.02716862, first: [-0.0001113738, -1.737761e-06, 0.0001629243, -0.0003399581] },
    "model.layers.1.self_attn.q_proj.bias": { norm: 0.002975762, first: [-0.0001766496, 7.261359e-05, -1.17795e-05, 0.0001298136] },
    "model.layers.1.self_attn.k_proj.weight": { norm: 0.03901992, first: [-9.357243e-05, -2.69367e-06, -7.516516e-05, 0.0001072355] },
    "model.layers.1.self_attn.k_proj.bias": { norm: 0.001476207, first: [-0.0001689503, -0.0002414229, 5.591537e-05, -8.094618e-05] },
    "model.layers.1.self_attn.v_proj.weight": { norm: 0.06909443, first: [8.994002e-05, 2.426579e-05, 9.515871e-05, -7.045067e-05] },
    "model.layers.1.self_attn.v_proj.bias": { norm: 0.01120592, first: [7.865571e-05, 0.0007585073, -0.0003339302, -0.0005399261] },
    "model.layers.1.self_attn.o_proj.weight": { norm: 0.06282066, first: [0.000136887, -0.0002279641, 0.0003105945, -0.0001236691] },
    "model.layers.1.mlp.gate.weight": { norm: 0.02355543, first: [0.0006192822, -0.0004754126, 0.0001179151, -0.0002274981] },
    "model.layers.1.mlp.experts.gate_up_proj": { norm: 0.01909968, first: [-9.524465e-06, 9.242252e-06, 5.963466e-07, 4.051373e-06] },
    "model.layers.1.mlp.experts.down_proj": { norm: 0.03630732, first: [-9.658982e-06, -1.331073e-06, 1.574543e-07, -3.829241e-06] },
    "model.layers.1.mlp.shared_expert.gate_proj.weight": {
      norm: 0.0124285,
      first: [-0.0003571266, 0.0001733211, -0.0001562361, 0.00023043],
    },
    "model.layers.1.mlp.shared_expert.up_proj.weight": {
      norm: 0.01119972,
      first: [0.0005243599, -0.0002672469, 9.372526e-05, -0.0001830765],
    },
    "model.layers.1.mlp.shared_expert.down_proj.weight": {
      norm: 0.03103934,
      first: [-6.859096e-05, 1.344303e-05, 1.398325e-05, -3.026456e-06],
    },
    "model.layers.1.mlp.shared_expert_gate.weight": { norm: 0.01006837, first: [-0.001620243, 0.0003777282, -0.0007120199, 0.0007353393] },
    "model.layers.1.input_layernorm.weight": { norm: 0.01175138, first: [0.0001960636, 2.431581e-05, 0.0005838299, 0.00409727] },
    "model.layers.1.post_attention_layernorm.weight": {
      norm: 0.004444164,
      first: [-0.0007346542, 1.366462e-06, -0.000264507, -0.0001209029],
    },
    "model.norm.weight": { norm: 0.01029029, first: [2.884131e-06, -0.000984742, 0.0007010749, -0.0008050314] },
    "lm_head.weight": { norm: 0.7170721, first: [-6.342954e-06, 2.484599e-06, 1.688922e-05, -3.058812e-06] },
  },
  "tiny-deepseek-v2": {
    "model.embed_tokens.weight": { norm: 0.0507454, first: [0.0002564313, -0.000170865, -0.0001702038, 4.221465e-05] },
    "model.layers.0.self_attn.q_proj.weight": { norm: 0.005897941, first: [4.554332e-06, -4.541386e-06, 2.381254e-05, -4.122811e-06] },
    "model.layers.0.self_attn.kv_a_proj_with_mqa.weight": {
      norm: 0.01306942,
      first: [-9.442498e-05, -0.0001214196, -0.0003203605, -0.0002462138],
    },
    "model.layers.0.self_attn.kv_a_layernorm.weight": { norm: 0.002019982, first: [-0.000120031, 8.202278e-05, 3.83491e-06, -3.05709e-05] },
    "model.layers.0.self_attn.kv_b_proj.weight": { norm: 0.03013192, first: [3.842562e-06, 2.369911e-06, -1.873533e-06, 4.963108e-06] },
    "model.layers.0.self_attn.o_proj.weight": { norm: 0.02424972, first: [2.395838e-05, 0.0002459095, -5.101361e-05, 0.0004113709] },
    "model.layers.0.mlp.gate_proj.weight": { norm: 0.04050273, first: [-0.0001440484, 6.375067e-05, 0.0001309854, 4.685076e-05] },
    "model.layers.0.mlp.up_proj.weight": { norm: 0.03884704, first: [-0.0001325355, 2.777757e-05, -0.0001563975, 5.117667e-05] },
    "model.layers.0.mlp.down_proj.weight": { norm: 0.0644859, first: [8.710146e-05, -4.739146e-05, 4.174026e-05, -0.0001540832] },
    "model.layers.0.input_layernorm.weight": { norm: 0.001093821, first: [2.580937e-05, 0.0001134603, 5.397625e-05, -5.332012e-06] },
    "model.layers.0.post_attention_layernorm.weight": {
      norm: 0.00340202,
      first: [-7.663241e-05, 0.0001217533, -0.0001325494, 1.734075e-05],
    },
    "model.layers.1.self_attn.q_proj.weight": { norm: 0.006580248, first: [-1.88741e-05, 1.008972e-05, 1.06434e-05, -7.78062e-06] },
    "model.layers.1.self_attn.kv_a_proj_with_mqa.weight": {
      norm: 0.01711643,
      first: [2.187042e-05, 0.0001683213, 0.0002093557, -0.0005335165],
    },
    "model.layers.1.self_attn.kv_a_layernorm.weight": {
      norm: 0.002320593,
      first: [-0.0006122637, 0.0002997006, -0.0001683928, 0.0004233403],
    },
    "model.layers.1.self_attn.kv_b_proj.weight": { norm: 0.02264742, first: [5.392707e-05, 1.838249e-05, -1.767821e-05, -3.431502e-06] },
    "model.layers.1.self_attn.o_proj.weight": { norm: 0.03097912, first: [3.820763e-05, 9.293058e-05, -5.536991e-05, 9.704013e-05] },
    "model.layers.1.mlp.experts.gate_up_proj": { norm: 0.0132123, first: [1.393536e-05, -3.668021e-06, -2.756791e-06, -2.362635e-06] },
    "model.layers.1.mlp.experts.down_proj": { norm: 0.0795696, first: [2.119752e-05, -3.841802e-05, -1.717252e-05, -7.863039e-06] },
    "model.layers.1.mlp.gate.weight": { norm: 0.01223428, first: [3.486042e-05, 0.0004196328, 0.0001058122, -0.0002563515] },
    "model.layers.1.mlp.shared_experts.gate_proj.weight": {
      norm: 0.01580486,
      first: [8.415221e-05, 2.95059e-05, -1.675295e-05, -2.368755e-05],
    },
    "model.layers.1.mlp.shared_experts.up_proj.weight": {
      norm: 0.01341813,
      first: [-7.17704e-05, -4.954041e-05, 5.453457e-05, 8.05189e-05],
    },
    "model.layers.1.mlp.shared_experts.down_proj.weight": {
      norm: 0.02000572,
      first: [1.902663e-05, 8.226677e-05, 5.082033e-05, 6.152612e-05],
    },
    "model.layers.1.input_layernorm.weight": { norm: 0.00137803, first: [-0.0001538894, -5.4683e-06, -5.256871e-05, -8.683552e-05] },
    "model.layers.1.post_attention_layernorm.weight": {
      norm: 0.002602772,
      first: [-5.194493e-05, -0.0001042632, -0.0002200974, -0.0001320468],
    },
    "model.norm.weight": { norm: 0.01093895, first: [0.001078086, 0.000905396, 0.0008158772, -0.0009584081] },
    "lm_head.weight": { norm: 0.6970174, first: [4.377666e-05, 7.185342e-05, -4.75327e-06, -2.449661e-05] },
  },
};
