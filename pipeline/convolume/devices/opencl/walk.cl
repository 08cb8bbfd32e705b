// One axis after the other in one walk through memory: a work item owns {{ job.rows }} rows along a and all of x, and walks along b.
// The pass along a reads the source and fills a ring of rows, the pass along b reads the ring, the pass along x one
// line whose two ends are filled. What lies beyond a face is a place in a list, so nothing is copied to be padded.
// Where the pass along b needs few lines, those of a column stand together in the ring, column after column; else rows do.
{% include "common.cl" %}
{% set width, span = job.vector_width, job.span %}
{% set sum_vector = job.sum_type ~ width %}

{% if job.loose_pointers %}
typedef {{ job.between_type }}{{ width }} __attribute__((aligned(sizeof(between_t)))) loose_between_t;
#define LOAD_LOCAL(place) convert_{{ sum_vector }}(*(__local const loose_between_t *)(place))
#define STORE_LOCAL(place, sums) *(__local loose_between_t *)(place) = TO_BETWEENS(sums)
{% else %}
#define LOAD_LOCAL(place) convert_{{ sum_vector }}(vload{{ width }}(0, place))
#define STORE_LOCAL(place, sums) vstore{{ width }}(TO_BETWEENS(sums), 0, place)
{% endif %}
// Vectors of line i of those that neighbouring outputs need: from the source, from the ring.
#define FROM_A(i, v) rows[i] < 0 ? (sums_t)(outside_a) : LOAD(from + rows[i] + v * {{ width }})
#define FROM_B(i, v) LOAD_LOCAL(column + held[i] + v * {{ width }})
// The lines of the step after the next are on their way meanwhile.
#define AHEAD_A(i) PREFETCH(from + rows[i] + 2 * pitch_b, 2)
#define AHEAD_B(i)
#define ON_LINE(o, v, i) LOAD_LOCAL(part + o * line_pitch + v * {{ width }} + i)

{% macro no_sums(count) %}
{% for o in range(count) %}
sums_t {% for v in range(job.vectors) %}sum{{ o }}_{{ v }} = 0{{ ";" if loop.last else ", " }}{% endfor %}

{% endfor %}
{% endmacro %}
{# Line i of the pass `name` is tap i - o of output o. #}
{% macro weigh_line(name, i, outputs) %}
{
{% for v in range(job.vectors) %}
    const sums_t part{{ v }} = FROM_{{ name | upper }}({{ i }}, {{ v }});
{% endfor %}
    AHEAD_{{ name | upper }}({{ i }});
{% for o in outputs %}
{% for v in range(job.vectors) %}
    sum{{ o }}_{{ v }} += part{{ v }} * weights_{{ name }}[{{ i }} - {{ o }}];
{% endfor %}
{% endfor %}
}
{% endmacro %}
{# The sums that a line completes, and the output where it is the last of a box; outputs share them. #}
{% macro sum_line(name, taps, i, count) %}
{% for v in range(job.vectors) %}
const sums_t line1_{{ i }}_{{ v }} = FROM_{{ name | upper }}({{ i }}, {{ v }});
{% for first, second in additions(taps.size) if i + 1 >= first + second %}
{% set begin = i + 1 - first - second %}
const sums_t line{{ first + second }}_{{ begin }}_{{ v }} = line{{ first }}_{{ begin }}_{{ v }} + line{{ second }}_{{ begin + first }}_{{ v }};
{% endfor %}
{% if i + 1 >= taps.size %}
{% set o = i + 1 - taps.size %}
const sums_t sum{{ o }}_{{ v }} = (line{{ taps.size }}_{{ o }}_{{ v }} + 0) * weights_{{ name }}[0];
{% endif %}
{% endfor %}
AHEAD_{{ name | upper }}({{ i }});
{% endmacro %}
{# Every output meets its taps in ascending order, or boxes go by their addition chain. #}
{% macro weigh(name, taps, count) %}
{% if taps.as_box %}
{% for i in range(taps.size + count - 1) %}
{{ sum_line(name, taps, i, count) }}
{%- endfor %}
{% else %}
{{ no_sums(count) }}
{%- if taps.are_looped %}
{% for i in range(count - 1) %}
{{ weigh_line(name, i, range(i + 1)) }}
{%- endfor %}
for (int i = {{ count - 1 }}; i < extent_{{ name }}; i++)
{{ weigh_line(name, "i", range(count)) }}
{%- for o in range(1, count) %}
{{ weigh_line(name, "extent_" ~ name ~ " + " ~ (o - 1), range(o, count)) }}
{%- endfor %}
{% else %}
{% for i, outputs in taps.lines(count) %}
{{ weigh_line(name, i, outputs) }}
{%- endfor %}
{% endif %}
{% endif %}
{% endmacro %}
{% macro weigh_along_x(i) %}
{
{% for o in range(job.steps) %}
{% for v in range(job.vectors) %}
    sum{{ o }}_{{ v }} += LOAD_LOCAL(part + {{ o }} * line_pitch + {{ v * width }} + {{ i }}) * weights_x[{{ i }}];
{% endfor %}
{% endfor %}
}
{% endmacro %}
__attribute__((reqd_work_group_size(1, 1, 1)))
__kernel void correlate(__global const source_t *restrict source, __global target_t *restrict target,
                        __global const sum_t *restrict weights, __global const long *restrict places,
                        __global const long *axes, int axis_count, int extent_a, int extent_b, int extent_x,
                        int height, int depth, int width_read, int width, int lead, int ends_before, int ends_after,
                        int slots, int ahead, int slot_pitch, int row_pitch, int column_pitch, int lines_begin, int line_pitch,
                        long pitch_b, long target_a, long target_b, int has_whole_rows,
                        sum_t outside_a, sum_t outside_b, sum_t outside_x, __local between_t *ring, __local int *held,
                        __local target_t *gathered) {
    long source_start = 0, target_start = 0;
    find_row(get_global_id(2), axis_count, axes, &source_start, &target_start);
    // Last rows, steps and vectors are shifted back over their neighbours: the same voxels again, to the same bits.
    const int a = min((int)get_global_id(0) * {{ job.rows }}, height - {{ job.rows }});
    const int start = (long)depth * get_global_id(1) / get_global_size(1);
    const int stop = (long)depth * (get_global_id(1) + 1) / get_global_size(1);
    __global const sum_t *weights_a = weights, *weights_b = weights + extent_a, *weights_x = weights_b + extent_b;
    __global const long *places_b = places + height + extent_a - 1;
    __global const long *ends = places_b + depth + extent_b - 1;
    // Lines begin with a row's first voxel, their ends lie before and behind it.
    __local between_t *lines = ring + lines_begin;
    const bool are_gathered = ARE_GATHERED{{ " || lead" if not job.x }};
    const int reach = extent_b + {{ job.steps - 1 }};
    int filled = start;

    // Every turn finishes its rows, one by one, and meanwhile fills the ring for so many steps ahead, so that reading and
    // storing go on side by side. The first ones only fill.
    for (int begin = start - (reach + {{ job.steps - 1 }}) / {{ job.steps }} * {{ job.steps }}; begin < stop; begin += {{ job.steps }}) {
        const int b = min(begin, stop - {{ job.steps }});
        for (int i = 0; i < reach && begin >= start; i++)
            held[i] = (b - start + i) % slots * slot_pitch;
        for (int r = 0; r < {{ job.rows }}; r++) {
            const int wanted = min(begin + reach + (r + 1) * ahead / {{ job.rows }}, stop + extent_b - 1);
            for (; filled < wanted; filled++) {
                __local between_t *slot = ring + (filled - start) % slots * slot_pitch;
                if (places_b[filled] < 0) {
                    for (int row = 0; row < {{ job.rows }}; row++)
                        for (int column = 0; column < (width_read - lead + {{ span - 1 }}) / {{ span }}; column++)
                            for (int i = 0; i < {{ span }}; i++)
                                slot[row * row_pitch + column * column_pitch + i] = TO_BETWEEN(outside_b);
                    continue;
                }
                for (int first = 0; first < {{ job.rows }}; first += {{ job.rows_at_once }}) {
                    for (int next = lead; next < width_read; next += {{ span }}) {
                        const int x = WITHIN(next, width_read - {{ span }});
                        __global const source_t *from = source + source_start + places_b[filled] + x;
                        __local between_t *column = slot + first * row_pitch + (next - lead) / {{ span }} * column_pitch;
{% if job.a %}
                        __global const long *rows = places + a + first;
{{ weigh("a", job.a, job.rows_at_once) | indent(24, true) }}
{% endif %}
{% for o in range(job.rows_at_once) %}
{% if not job.b.are_looped %}
                        FETCH_TO_STORE(column + {{ o }} * row_pitch + column_pitch);
{% endif %}
{% for v in range(job.vectors) %}
                        STORE_LOCAL(column + {{ o }} * row_pitch + {{ v * width }}, {{ "sum" ~ o ~ "_" ~ v if job.a else "LOAD(from + " ~ v * width ~ ")" }});
{% endfor %}
{% endfor %}
                    }
                }
            }
            if (begin < start)
                continue;
            __global target_t *to = target + target_start + (a + r) * target_a + b * target_b;
            for (int next = lead; next < width_read; next += {{ span }}) {
                const int x = WITHIN(next, width_read - {{ span }});
                __local const between_t *column = ring + r * row_pitch + (next - lead) / {{ span }} * column_pitch;
{{ weigh("b", job.b, job.steps) | indent(16, true) }}
{% for o in range(job.steps) %}
{% for v in range(job.vectors) %}
{% if job.x %}
                STORE_LOCAL(lines + {{ o }} * line_pitch + x + {{ v * width }}, sum{{ o }}_{{ v }});
{% else %}
                STORE_LAST(to + {{ o }} * target_b + x + {{ v * width }}, gathered + {{ o }} * width + x + {{ v * width }}, sum{{ o }}_{{ v }});
{% endif %}
{% endfor %}
{% endfor %}
            }
{% if job.x %}
            for (int o = 0; o < {{ job.steps }}; o++) {
                __local between_t *line = lines + o * line_pitch;
                for (int i = 0; i < ends_before + ends_after; i++)
                    line[i < ends_before ? i - ends_before : i - ends_before + width_read] = ends[i] < 0 ? TO_BETWEEN(outside_x) : line[ends[i]];
            }
            for (int next = 0; next < width; next += {{ span }}) {
                const int x = WITHIN(next, width - {{ span }});
                __local const between_t *part = lines - ends_before + x;
{% if job.x.as_box %}
{% for o in range(job.steps) %}
{% for v in range(job.vectors) %}
                const sums_t sum{{ o }}_{{ v }} = ({{ box_sum(job.x.size, {1: "ON_LINE(%d, %d, %%d)" % (o, v)}) }} + 0) * weights_x[0];
{% endfor %}
{% endfor %}
{% else %}
{{ no_sums(job.steps) | indent(16, true) }}
{%- if job.x.are_looped %}
                for (int i = 0; i < extent_x; i++)
{{ weigh_along_x("i") | indent(16, true) }}
{%- else %}
{% for i in job.x.offsets %}
{{ weigh_along_x(i) | indent(16, true) }}
{%- endfor %}
{% endif %}
{% endif %}
{% for o in range(job.steps) %}
{% for v in range(job.vectors) %}
                STORE_LAST(to + {{ o }} * target_b + x + {{ v * width }}, gathered + {{ o }} * width + x + {{ v * width }}, sum{{ o }}_{{ v }});
{% endfor %}
{% endfor %}
            }
{% endif %}
            STORE_GATHERED(to, target_b, {{ job.steps }}, width);
        }
    }
}
