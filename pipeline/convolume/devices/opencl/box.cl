// Boxes along b and x by halves: sums of 2, 4, 8 … neighbours are made of two half as long, so that a voxel costs as
// many additions as its box has digits. A work item walks along b and keeps as many rows as the box is long; along x,
// a line of sums of every length. Rings are read before they are written: their columns never overlap, those of the source may.
// What a column of vectors waits for stands together.
// Neighbouring vectors are stored together, so that whole lines of the cache go past it.
{% include "common.cl" %}
{% set width, span, steps, sum_vector = job.vector_width, job.span, job.steps, job.sum_type ~ job.vector_width %}
{% if job.loose_pointers %}
typedef {{ sum_vector }} __attribute__((aligned(sizeof(sum_t)))) loose_sums_t;
#define GET(place) *(__local const loose_sums_t *)(place)
#define PUT(place, sums) *(__local loose_sums_t *)(place) = sums
{% else %}
#define GET(place) vload{{ width }}(0, place)
#define PUT(place, sums) vstore{{ width }}(sums, 0, place)
{% endif %}
{# The sums of a name so many rows ago: those of this turn are kept for the next. #}
{% macro delayed(ring, name, length) %}
{% set kept = [length, steps] | min %}
{% for j in range(kept) %}
const sums_t {{ ring }}{{ length }}_{{ j }} = GET({{ ring }}{{ length }} + {{ j * width }} + column);
PUT({{ ring }}{{ length }} + {{ j * width }} + column, {{ name }}_{{ steps - kept + j }});
{% endfor %}
{% endmacro %}
{# Where sums of a length begin this turn; turns take several rows. #}
{% macro place_in_ring(length, begin) %}
{{ (begin - 1) * width }}{{ " + (turn & %d) * %d" % (length - 1, width) if length > steps }}
{%- endmacro %}
// A sum of a line, and the one behind it.
#define PAIR(length) GET(line##length + x) + GET(line##length + x + length)
#define HANDED_ON(sums) convert_{{ sum_vector }}(TO_BETWEENS(sums))

__attribute__((reqd_work_group_size(1, 1, 1)))
__kernel void correlate(__global const source_t *restrict source, __global target_t *restrict target,
                        __global const long *restrict places, __global const long *restrict axes,
                        int axis_count, int depth, int width_read, int width, int tile, int ends_before, int ends_after,
                        int lines_begin, int line_pitch, long target_b, int has_whole_rows, sum_t outside_b, sum_t outside_x,
                        sum_t scale_b, sum_t scale_x, __local sum_t *ring, __local target_t *gathered) {
    long source_start = 0, target_start = 0;
    find_row(get_global_id(2), axis_count, axes, &source_start, &target_start);
    // The last tile is shifted back over its neighbour, as the last vector of a tile is: the same voxels again, to the same bits.
    const int first = min((int)get_global_id(0) * tile, width_read - tile);
    source += source_start + first;
    target += target_start + first;
    const int start = (long)depth * get_global_id(1) / get_global_size(1);
    const int stop = (long)depth * (get_global_id(1) + 1) / get_global_size(1);
    __global const long *ends = places + depth + {{ job.b - 1 }};
    const bool are_gathered = ARE_GATHERED;
{% if job.x > 1 %}
    // Lines begin with a row's first voxel, their ends lie before and behind it.
    __local sum_t *lines = ring + lines_begin;
{% endif %}

    for (int b = start; b < stop + {{ job.b - 1 }}; b += {{ steps }}) {
        const int last_row = stop + {{ job.b - 2 }};
        __global const source_t *from[{{ steps }}], *ahead[{{ steps }}];
        bool is_beyond[{{ steps }}];
        for (int j = 0; j < {{ steps }}; j++) {
            is_beyond[j] = places[min(b + j, last_row)] < 0;
            from[j] = source + max(places[min(b + j, last_row)], 0L);
            ahead[j] = source + max(places[min(b + j + {{ steps }}, last_row)], 0L);
        }
        // Of these rows, those that have all that they need, and are wanted.
        const int low = max(start + {{ job.b - 1 }} - b, 0), high = min({{ steps }}, stop + {{ job.b - 1 }} - b);
        __global target_t *to = target + (b - {{ job.b - 1 }}) * target_b;
        const int turn = b - start;
{% for length in job.halves(job.b) %}
        __local sum_t *half{{ length }} = ring + {{ place_in_ring(length, length) }};
{% endfor %}
{% for length, begin in job.parts(job.b) %}
        __local sum_t *total{{ length }} = ring + {{ place_in_ring(length, begin) }};
{% endfor %}
        for (int begin = 0; begin < tile; begin += {{ span }}) {
{% if job.x == 1 %}
            sums_t done[{{ job.vectors }}][{{ steps }}];
{% endif %}
{% for v in range(job.vectors) %}
            {
            const int column = (begin + {{ v * width }}) * {{ job.b - 1 }}, x = WITHIN(begin, tile - {{ span }}) + {{ v * width }};
{% for j in range(steps) %}
            const sums_t sum1_{{ j }} = is_beyond[{{ j }}] ? (sums_t)(outside_b) : LOAD(from[{{ j }}] + x);
            PREFETCH(ahead[{{ j }}] + x, 2);
{% endfor %}
{% for length in job.halves(job.b) %}
{{ delayed("half", "sum" ~ length, length) | indent(12, true) }}
{% for j in range(steps) %}
            const sums_t sum{{ 2 * length }}_{{ j }} = {{ "half" ~ length ~ "_" ~ j if j < length else "sum" ~ length ~ "_" ~ (j - length) }} + sum{{ length }}_{{ j }};
{% endfor %}
{% endfor %}
{% set ns = namespace(total="sum" ~ job.longest(job.b)) %}
{% for length, begin in job.parts(job.b) %}
{{ delayed("total", ns.total, length) | indent(12, true) }}
{% for j in range(steps) %}
            const sums_t after{{ length }}_{{ j }} = {{ "total" ~ length ~ "_" ~ j if j < length else ns.total ~ "_" ~ (j - length) }} + sum{{ length }}_{{ j }};
{% endfor %}
{% set ns.total = "after" ~ length %}
{% endfor %}
{% for j in range(steps) %}
{% set sums = "(%s_%d + 0) * scale_b" % (ns.total, j) if job.b > 1 else "%s_%d" % (ns.total, j) %}
{% if job.x > 1 %}
            PUT(lines + {{ j }} * line_pitch + x, {{ "HANDED_ON(%s)" % sums if job.b > 1 else sums }});
{% else %}
            done[{{ v }}][{{ j }}] = {{ sums }};
{% endif %}
{% endfor %}
            }
{% endfor %}
{% if job.x == 1 %}
            const int x = WITHIN(begin, tile - {{ span }});
{% for j in range(steps) %}
            if ({{ j }} >= low && {{ j }} < high) {
{% for v in range(job.vectors) %}
                STORE_LAST(to + {{ j }} * target_b + x + {{ v * width }}, gathered + ({{ j }} - low) * tile + x + {{ v * width }}, done[{{ v }}][{{ j }}]);
{% endfor %}
            }
{% endfor %}
{% endif %}
        }
{% if job.x > 1 %}
{% set lengths = job.halves(job.x) %}
        if (low >= {{ steps }})
            continue;
        for (int i = 0; i < ends_before + ends_after; i++) {
            __local sum_t *end = lines - ends_before + (i < ends_before ? i : i + width_read);
            if (ends[i] < 0) {
{% for j in range(steps) %}
                end[{{ j }} * line_pitch] = outside_x;
{% endfor %}
            } else {
                __local const sum_t *inside = lines + ends[i];
{% for j in range(steps) %}
                end[{{ j }} * line_pitch] = inside[{{ j }} * line_pitch];
{% endfor %}
            }
        }
        for (int j = low; j < high; j++) {
            __local sum_t *line1 = lines + j * line_pitch - ends_before;
{% for length in lengths[1:] %}
            __local sum_t *line{{ length }} = lines + {{ steps + loop.index0 }} * line_pitch;
{% endfor %}
{% for length in lengths[:-1] %}
            for (int x = 0; x <= ends_before + width_read + ends_after - {{ 2 * length }}; x += {{ width }})
                PUT(line{{ 2 * length }} + x, PAIR({{ length }}));
{% endfor %}
            for (int next = 0; next < width; next += {{ span }}) {
                int x = WITHIN(next, width - {{ span }});
                __global target_t *out = to + j * target_b + x;
                __local target_t *gathering = gathered + (j - low) * width + x;
{% for v in range(job.vectors) %}
                sums_t sum{{ v }} = PAIR({{ lengths[-1] }});
{% for length, begin in job.parts(job.x) %}
                sum{{ v }} += GET(line{{ length }} + x + {{ begin }});
{% endfor %}
                x += {{ width }};
{% endfor %}
{% for v in range(job.vectors) %}
                STORE_LAST(out + {{ v * width }}, gathering + {{ v * width }}, (sum{{ v }} + 0) * scale_x);
{% endfor %}
            }
        }
{% endif %}
        STORE_GATHERED(to + low * target_b, target_b, high - low, {{ "width" if job.x > 1 else "tile" }});
    }
}
