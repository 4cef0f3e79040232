/*
 * The one C++ file: toml++ reads the text, and what it found goes on as a jansson tree. Called
 * once, by the main thread, while the configuration is read. No exception leaves this file. toml++
 * sorts the keys of a table, so the order of the file is restored from the source positions.
 */
#define TOML_HEADER_ONLY 1
#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
#define TOML_ENABLE_UNRELEASED_FEATURES 0
#include <toml++/toml.h>

#include <algorithm>
#include <exception>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

extern "C" {
#include "config_toml.h"
}

namespace
{
struct decref {
    void operator()(json_t *json) const
    {
        json_decref(json);
    }
};
using json_ptr = std::unique_ptr<json_t, decref>;

json_ptr made(json_t *json)
{
    if (!json)
        throw std::bad_alloc();
    return json_ptr(json);
}

void put(json_t *object, const char *key, json_ptr value)
{
    if (json_object_set_new(object, key, value.release()) < 0)
        throw std::bad_alloc();
}

void append(json_t *array, json_ptr value)
{
    if (json_array_append_new(array, value.release()) < 0)
        throw std::bad_alloc();
}

json_ptr string_value(std::string_view s)
{
    return made(json_stringn(s.data(), s.size()));
}

json_ptr convert(const toml::node &node);

json_ptr convert_table(const toml::table &table)
{
    using entry = std::pair<const toml::key *, const toml::node *>;
    std::vector<entry> entries;
    json_ptr out = made(json_array());

    for (auto &&[key, node] : table)
        entries.emplace_back(&key, &node);
    std::sort(entries.begin(), entries.end(), [](const entry &a, const entry &b) {
        return a.first->source().begin < b.first->source().begin;
    });
    for (const entry &e : entries) {
        json_ptr object = made(json_object());
        put(object.get(), "key", string_value(e.first->str()));
        put(object.get(), "line", made(json_integer(e.first->source().begin.line)));
        put(object.get(), "value", convert(*e.second));
        append(out.get(), std::move(object));
    }
    return out;
}

json_ptr convert_array(const toml::array &array)
{
    json_ptr items = made(json_array());
    json_ptr out = made(json_object());

    for (const toml::node &node : array)
        append(items.get(), convert(node));
    put(out.get(), "array", std::move(items));
    return out;
}

json_ptr convert(const toml::node &node)
{
    if (const auto *table = node.as_table())
        return convert_table(*table);
    if (const auto *array = node.as_array())
        return convert_array(*array);
    if (const auto *s = node.as_string())
        return string_value(s->get());
    if (const auto *i = node.as_integer())
        return made(json_integer(i->get()));
    if (const auto *b = node.as_boolean())
        return made(json_boolean(b->get()));
    /* jansson has no infinity and no NaN: they become null, as dates do. */
    if (const auto *f = node.as_floating_point())
        if (json_t *real = json_real(f->get()))
            return json_ptr(real);
    return made(json_null());
}

int parse(json_t **out, std::string_view text, struct els_error *err)
{
    const toml::parse_result result = toml::parse(text);

    if (!result) {
        const toml::parse_error &e = result.error();
        const std::string_view what = e.description();
        return els_fail(err, ELS_EFORMAT, "config", "line %u is not TOML: %.*s",
                        (unsigned)e.source().begin.line, (int)std::min<size_t>(what.size(), 300),
                        what.data());
    }
    *out = convert_table(result.table()).release();
    return 0;
}
} // namespace

extern "C" int srv_toml_parse(json_t **out, const char *text, size_t size, struct els_error *err)
{
    try {
        return parse(out, std::string_view(text, size), err);
    } catch (const std::exception &e) {
        return els_fail(err, ELS_ENOMEM, "config", "reading TOML failed: %s", e.what());
    } catch (...) {
        return els_fail(err, ELS_EFORMAT, "config", "reading TOML failed");
    }
}
