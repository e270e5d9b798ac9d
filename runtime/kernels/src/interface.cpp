#include "interface.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <vector>

#include "description.h"
#include "pack.h"
#include "path.h"
#include "peaks.h"
#include "processor.h"
#include "team.h"

namespace {

using embedrt::Arena;
using embedrt::InvalidDescription;
using embedrt::Path;
using embedrt::Workspace;

// The memory of a run, kept for the next one.
struct Room {
    Arena arena;
    std::vector<Workspace> workspaces;  // of each thread; they share what is not its own
};

// What a thread takes at least is worth starting it: rows, or columns of the narrowest products.
constexpr std::int64_t kColumnsOfThread = 192;
constexpr std::int64_t kMostThreads = 256;

void write(char *to, std::uint64_t bytes, const char *message) {
    if (to == nullptr || bytes == 0) return;
    const std::size_t length = std::min<std::size_t>(std::strlen(message), bytes - 1);
    std::memcpy(to, message, length);
    to[length] = '\0';
}

// Run `work`; return the kind of the exception that it throws, and write its message.
template <class Work>
std::int32_t guarded(char *error, std::uint64_t error_bytes, Work work) noexcept {
    try {
        work();
        return EMBEDRT_OK;
    } catch (const InvalidDescription &problem) {
        write(error, error_bytes, problem.what());
        return EMBEDRT_INVALID;
    } catch (const std::exception &problem) {
        write(error, error_bytes, problem.what());
    } catch (...) {
        write(error, error_bytes, "an unknown error");
    }
    return EMBEDRT_FAILED;
}

}  // namespace

struct embedrt_model {
    Arena arena;
    embedrt::Model packed{};
    const Path *path = nullptr;
    std::mutex lock;
    std::vector<std::unique_ptr<Room>> rooms;  // not in use

    std::unique_ptr<Room> take(std::int64_t rows, std::size_t threads) {
        std::unique_ptr<Room> room;
        {
            const std::lock_guard<std::mutex> held(lock);
            if (!rooms.empty()) {
                room = std::move(rooms.back());
                rooms.pop_back();
            }
        }
        if (room == nullptr || room->workspaces.front().rows < rows) {
            room = std::make_unique<Room>();
            room->workspaces = {make_workspace(packed, (rows + 63) / 64 * 64, room->arena)};
            add_scratch(packed, room->workspaces.front(), room->arena);
        }
        while (room->workspaces.size() < threads) {
            room->workspaces.push_back(room->workspaces.front());
            add_scratch(packed, room->workspaces.back(), room->arena);
        }
        return room;
    }

    void give_back(std::unique_ptr<Room> room) {
        const std::lock_guard<std::mutex> held(lock);
        rooms.push_back(std::move(room));
    }
};

namespace {

void check_ids(const embedrt::Model &model, const std::int64_t *ids, std::int64_t batch,
               std::int64_t tokens, std::uint64_t embeddings_bytes) {
    constexpr std::int64_t kMostRows = 1 << 24;
    if (batch < 1 || tokens < 1 || batch > kMostRows / tokens) {
        throw InvalidDescription("a batch of shape " + std::to_string(batch) + " x " +
                                 std::to_string(tokens));
    }
    if (tokens > model.most_tokens) {
        throw InvalidDescription(std::to_string(tokens) + " tokens; at most " +
                                 std::to_string(model.most_tokens) + " have a position");
    }
    const auto wanted = static_cast<std::uint64_t>(batch * model.hidden) * sizeof(float);
    if (embeddings_bytes != wanted) throw InvalidDescription("the result's memory has another size");
    for (std::int64_t i = 0; i < batch * tokens; ++i) {
        if (ids[i] < 0 || ids[i] >= model.vocabulary) {
            throw InvalidDescription("token id " + std::to_string(ids[i]) + " of a vocabulary of " +
                                     std::to_string(model.vocabulary));
        }
    }
}

}  // namespace

extern "C" {

std::int32_t embedrt_interface(void) { return EMBEDRT_INTERFACE; }

std::uint32_t embedrt_features(void) { return embedrt::processor_features(); }

const char *embedrt_path(std::uint32_t masked) {
    const Path *path = embedrt::fastest_path(embedrt::processor_features() & ~masked);
    return path == nullptr ? nullptr : path->name;
}

std::int32_t embedrt_create(const embedrt_encoder *encoder, const char *path, embedrt_model **model,
                            char *error, std::uint64_t error_bytes) {
    return guarded(error, error_bytes, [&] {
        if (encoder == nullptr || path == nullptr || model == nullptr) {
            throw InvalidDescription("an argument is NULL");
        }
        *model = nullptr;
        embedrt::check(*encoder);
        auto made = std::make_unique<embedrt_model>();
        made->path = embedrt::find_path(path, embedrt::processor_features());
        if (made->path == nullptr) {
            throw InvalidDescription("this machine cannot run the path " + std::string(path));
        }
        made->packed = embedrt::pack(*encoder, made->arena);
        *model = made.release();
    });
}

std::int32_t embedrt_run(embedrt_model *model, std::int32_t threads, const std::int64_t *ids,
                         std::int64_t batch, std::int64_t tokens, float *embeddings,
                         std::uint64_t embeddings_bytes, char *error, std::uint64_t error_bytes) {
    return guarded(error, error_bytes, [&] {
        if (model == nullptr || ids == nullptr || embeddings == nullptr) {
            throw InvalidDescription("an argument is NULL");
        }
        check_ids(model->packed, ids, batch, tokens, embeddings_bytes);
        const std::int64_t useful =
            std::max({std::int64_t{1}, batch * tokens / model->path->rows_of_thread,
                      model->packed.hidden / kColumnsOfThread});
        const auto count = static_cast<int>(std::clamp<std::int64_t>(
            threads, 1, std::min(useful, kMostThreads)));
        auto room = model->take(batch * tokens, static_cast<std::size_t>(count));
        embedrt::run_parts(count, [&](const embedrt::Part &part) {
            model->path->run(model->packed, room->workspaces[static_cast<std::size_t>(part.index)],
                             ids, batch, tokens, embeddings, part);
        });
        model->give_back(std::move(room));
    });
}

void embedrt_destroy(embedrt_model *model) { delete model; }

std::int32_t embedrt_apply(const char *path, std::int32_t which, const float *values,
                           float *results, std::int64_t count) {
    const Path *found = path == nullptr || values == nullptr || results == nullptr
                            ? nullptr
                            : embedrt::find_path(path, embedrt::processor_features());
    if (found == nullptr) return EMBEDRT_UNSUPPORTED;
    return found->apply(which, values, results, count) ? EMBEDRT_OK : EMBEDRT_INVALID;
}

std::int32_t embedrt_peak(std::int32_t which, double *rate) {
    return rate != nullptr && embedrt::measure_peak(which, *rate) ? EMBEDRT_OK : EMBEDRT_INVALID;
}

}  // extern "C"
