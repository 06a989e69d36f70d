// The Transformer's encoder and one step of its decoder, whole: what models/compiled.py calls.
//
// Rows are tokens of sentences without padding (encoder) or hypotheses (decoder). Every row is
// computed by the same operations in the same order whatever stands beside it.

#include <vector>

#include "attention.h"
#include "matrix.h"

struct EncoderLayer {
    Norm norm;
    Matrix joined, out;
    Norm feed_norm;
    Matrix inner, outer;
};

struct DecoderLayer {
    EncoderLayer own;
    Norm cross_norm;
    Matrix asked, cross_joined, cross_out;
};

struct Transformer {
    int64_t width, heads, encoder_layers, decoder_layers;
    int64_t pre;   // norm before the sublayers, not behind them
    int64_t gelu;  // activation, else relu
    float epsilon, embedding_scale;
    const float *source_embedding, *target_embedding;  // [V, D]
    const float* positions;                            // [., D]; null: none
    const EncoderLayer* encoder;
    const DecoderLayer* decoder;
    Norm encoder_norm, decoder_norm;  // with pre alone
    Matrix output;
};

struct Encoding {
    int64_t sentences, longest;
    const int64_t* tokens;   // of all sentences, one after the other
    const int64_t* lengths;  // [B]
    float* memory;           // [B, L, S, 2 x D]: keys and values of every decoder layer
};

struct Step {
    int64_t sentences, beam, position, capacity, longest, cached;
    const int64_t* tokens;    // [B, K]
    const int64_t* lengths;   // [B] of the sources
    const int64_t* sources;   // [B] where each sentence's memory lies
    const float* memory;      // [., L, S, 2 x D]
    const int64_t* places;    // [B] where each sentence's keys lie in the cache
    const int32_t* ancestry;  // [B, K, capacity]: whose keys a hypothesis sees at each position
    float* cache;             // [capacity, cached, K, L, 2 x D]
    float* logits;            // [B, K, V]
};

namespace {

struct Room {
    Buffer<float> x, normed, wide, mixed;
    std::vector<const float*> rows;
};

thread_local Room room;

// The input of a sublayer.
const float* before(const Transformer& model, const Norm& norm, const float* x, int64_t count) {
    if (!model.pre) return x;
    float* normed = room.normed.of(count * model.width);
    normalise(norm, x, count, model.width, model.epsilon, normed);
    return normed;
}

// x plus the sublayer's result, which is what a matrix makes of `inner`.
void after(const Transformer& model, const Norm& norm, const Matrix& matrix, const float* inner,
           float* x, int64_t count) {
    linear(matrix, inner, count, After::added, x);
    if (!model.pre) normalise(norm, x, count, model.width, model.epsilon, x);
}

void feed_forward(const Transformer& model, const EncoderLayer& layer, float* x, int64_t count) {
    float* wide = room.wide.of(count * layer.inner.outputs);
    linear(layer.inner, before(model, layer.feed_norm, x, count), count,
           model.gelu ? After::gelu : After::relu, wide);
    after(model, layer.feed_norm, layer.outer, wide, x, count);
}

void embed(const Transformer& model, const float* table, int64_t token, int64_t position, float* x) {
    for (int64_t i = 0; i < model.width; i += LANES) {
        floats embedded = load(table + token * model.width + i) * model.embedding_scale;
        if (model.positions) embedded += load(model.positions + position * model.width + i);
        store(x + i, embedded);
    }
}

void look(const Transformer& model, const float* query, float* mixed) {
    attend(query, {room.rows.data(), int64_t(room.rows.size())}, model.heads,
           model.width / model.heads, mixed);
}

void read_sources(const Transformer& model, const EncoderLayer& layer, const Encoding& call, float* x,
                  int64_t count) {
    int64_t width = model.width;
    float* joined = room.wide.of(count * 3 * width);
    float* mixed = room.mixed.of(count * width);
    linear(layer.joined, before(model, layer.norm, x, count), count, After::stored, joined);
    for (int64_t sentence = 0, first = 0; sentence < call.sentences; sentence++) {
        int64_t end = first + call.lengths[sentence];
        room.rows.clear();
        for (int64_t row = first; row < end; row++)
            room.rows.push_back(joined + row * 3 * width + width);
        for (int64_t row = first; row < end; row++)
            look(model, joined + row * 3 * width, mixed + row * width);
        first = end;
    }
    after(model, layer.norm, layer.out, mixed, x, count);
    feed_forward(model, layer, x, count);
}

// Self-attention of hypotheses [B, K] over their own pasts.
void look_back(const Transformer& model, const Step& call, int64_t index, float* x) {
    const EncoderLayer& layer = model.decoder[index].own;
    int64_t width = model.width, count = call.sentences * call.beam;
    float* joined = room.wide.of(count * 3 * width);
    float* mixed = room.mixed.of(count * width);
    linear(layer.joined, before(model, layer.norm, x, count), count, After::stored, joined);
    auto slot = [&](int64_t position, int64_t sentence, int64_t hypothesis) {
        int64_t at = (position * call.cached + call.places[sentence]) * call.beam + hypothesis;
        return call.cache + (at * model.decoder_layers + index) * 2 * width;
    };
    for (int64_t row = 0; row < count; row++) {
        int64_t sentence = row / call.beam, hypothesis = row % call.beam;
        float* own = slot(call.position, sentence, hypothesis);
        std::memcpy(own, joined + row * 3 * width + width, 2 * width * sizeof(float));
        room.rows.clear();
        for (int64_t position = 0; position < call.position; position++)
            room.rows.push_back(
                slot(position, sentence, call.ancestry[row * call.capacity + position]));
        room.rows.push_back(own);
        look(model, joined + row * 3 * width, mixed + row * width);
    }
    after(model, layer.norm, layer.out, mixed, x, count);
}

// Attention of hypotheses [B, K] over their sources.
void look_at_source(const Transformer& model, const Step& call, int64_t index, float* x) {
    const DecoderLayer& layer = model.decoder[index];
    int64_t width = model.width, count = call.sentences * call.beam;
    float* queries = room.wide.of(count * width);
    float* mixed = room.mixed.of(count * width);
    linear(layer.asked, before(model, layer.cross_norm, x, count), count, After::stored, queries);
    for (int64_t sentence = 0; sentence < call.sentences; sentence++) {
        int64_t source = call.sources[sentence];
        int64_t first = (source * model.decoder_layers + index) * call.longest;
        room.rows.clear();
        for (int64_t at = 0; at < call.lengths[sentence]; at++)
            room.rows.push_back(call.memory + (first + at) * 2 * width);
        for (int64_t row = sentence * call.beam; row < (sentence + 1) * call.beam; row++)
            look(model, queries + row * width, mixed + row * width);
    }
    after(model, layer.cross_norm, layer.cross_out, mixed, x, count);
}

}  // namespace

extern "C" void encode(const Transformer& model, const Encoding& call) {
    int64_t width = model.width, count = 0;
    for (int64_t sentence = 0; sentence < call.sentences; sentence++) count += call.lengths[sentence];
    float* x = room.x.of(count * width);
    for (int64_t sentence = 0, row = 0; sentence < call.sentences; sentence++)
        for (int64_t at = 0; at < call.lengths[sentence]; at++, row++)
            embed(model, model.source_embedding, call.tokens[row], at, x + row * width);
    for (int64_t index = 0; index < model.encoder_layers; index++)
        read_sources(model, model.encoder[index], call, x, count);
    if (model.pre) normalise(model.encoder_norm, x, count, width, model.epsilon, x);
    float* pairs = room.wide.of(count * 2 * width);
    for (int64_t index = 0; index < model.decoder_layers; index++) {
        linear(model.decoder[index].cross_joined, x, count, After::stored, pairs);
        const float* from = pairs;
        for (int64_t sentence = 0; sentence < call.sentences; sentence++) {
            int64_t size = call.lengths[sentence] * 2 * width;
            int64_t place = (sentence * model.decoder_layers + index) * call.longest;
            std::memcpy(call.memory + place * 2 * width, from, size * sizeof(float));
            from += size;
        }
    }
}

extern "C" void step(const Transformer& model, const Step& call) {
    int64_t width = model.width, count = call.sentences * call.beam;
    float* x = room.x.of(count * width);
    for (int64_t row = 0; row < count; row++)
        embed(model, model.target_embedding, call.tokens[row], call.position, x + row * width);
    for (int64_t index = 0; index < model.decoder_layers; index++) {
        look_back(model, call, index, x);
        look_at_source(model, call, index, x);
        feed_forward(model, model.decoder[index].own, x, count);
    }
    if (model.pre) normalise(model.decoder_norm, x, count, width, model.epsilon, x);
    linear(model.output, x, count, After::stored, call.logits);
}

// Rows x [count, M] times a matrix: out [count, N].
extern "C" void product(const Matrix& matrix, const float* x, int64_t count, float* out) {
    linear(matrix, x, count, After::stored, out);
}

// Each hypothesis goes on from a parent [B, K]: rows of ancestry [B, K, capacity] change places.
extern "C" void follow(int32_t* ancestry, const int64_t* parents, int64_t sentences, int64_t beam,
                       int64_t capacity, int64_t length) {
    static thread_local Buffer<int32_t> copies;
    int32_t* old = copies.of(beam * length);
    for (int64_t sentence = 0; sentence < sentences; sentence++) {
        int32_t* rows = ancestry + sentence * beam * capacity;
        for (int64_t k = 0; k < beam; k++)
            std::memcpy(old + k * length, rows + k * capacity, length * sizeof(int32_t));
        for (int64_t k = 0; k < beam; k++)
            std::memcpy(rows + k * capacity, old + parents[sentence * beam + k] * length,
                        length * sizeof(int32_t));
    }
}
