// Boxes along b and x by addition chains: long sums are made of shorter ones, so that a voxel costs hardly more additions
// than its box has binary digits. A work item walks along b and keeps what waits for later rows; along x, lines of the sums
// that are used again. Rings are read before they are written: their columns never overlap, those of the source may.
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
{# Sums from as many rows ago as they wait, and those of this turn to be kept. #}
{% macro delayed(wait) %}
{% for j in range([wait.rows, steps] | min) %}
{% set row = wait.spare + j %}
const sums_t earlier{{ wait.length }}_{{ j }} = GET({{ "wait" if row < steps else "next" }}{{ wait.length }} + {{ row % steps * width }} + column);
{% endfor %}
{% for j in range([wait.rows, steps] | min) %}
PUT(wait{{ wait.length }} + {{ j * width }} + column, sum{{ wait.length }}_{{ [steps - wait.rows, 0] | max + j }});
{% endfor %}
{% endmacro %}
{% macro sums_of_row() %}
{% if job.b == 1 %}
// Reading goes on while sums are made; with a ring beside them the next rows would find no room so near.
PREFETCH(ahead[j] + x, 3);
{% endif %}
{% for v in range(job.vectors) %}
const sums_t sum{{ v }} = ({{ job.along_x(job.x, v * width) }} + 0) * scale_x;
{% endfor %}
{% endmacro %}
{% macro store_part(first, stop) %}
{% for v in range(job.vectors) %}
*(__local loose_target_t *)(gathered + {{ v * width }}) = TO_TARGETS(sum{{ v }});
{% endfor %}
for (int i = {{ first }}; i < {{ stop }}; i++)
    row[x + i] = gathered[i];
{% endmacro %}
#define LANES ({{ "long" if job.sum_type == "double" else "int" }}{{ width }})({% for lane in range(width) %}{{ lane }}{{ ", " if not loop.last }}{% endfor %})
#define HANDED_ON(sums) convert_{{ sum_vector }}(TO_BETWEENS(sums))

__attribute__((reqd_work_group_size(1, 1, 1)))
__kernel void correlate(__global const source_t *restrict source, __global target_t *restrict target,
                        __global const long *restrict places, __global const long *restrict axes,
                        __global const source_t *restrict outside, int axis_count, int depth, int width_read, int width, int tile, int ends_before, int ends_after,
                        int lines_begin, int line_pitch, long target_b, int has_whole_rows, sum_t outside_x,
                        sum_t scale_b, sum_t scale_x, __local sum_t *ring, __local target_t *gathered) {
    long source_start = 0, target_start = 0;
    find_row(get_global_id(2), axis_count, axes, &source_start, &target_start);
    // The last tile is shifted back over its neighbour, as the last vector of a tile is: the same voxels again, to the same bits.
    const int first = min((int)get_global_id(0) * tile, width_read - tile);
    // What the next work item begins with is fetched behind the last row.
    long next_start = 0, beside = 0;
    find_row(min(get_global_id(2) + 1, get_global_size(2) - 1), axis_count, axes, &next_start, &beside);
    __global const source_t *next = source + next_start + first;
    source += source_start + first;
    target += target_start + first;
    const int start = (long)depth * get_global_id(1) / get_global_size(1);
    const int stop = (long)depth * (get_global_id(1) + 1) / get_global_size(1);
    __global const long *ends = places + depth + {{ job.b - 1 }};
{% if job.x == 1 %}
    const bool are_gathered = ARE_GATHERED;
{% else %}
    // Lines begin with a row's first voxel, their ends lie before and behind it.
    __local sum_t *lines = ring + lines_begin;
    sums_t {% for v in range(job.vectors) %}held{{ v }} = 0{{ ";" if loop.last else ", " }}{% endfor %}

{% endif %}

    for (int b = start; b < stop + {{ job.b - 1 }}; b += {{ steps }}) {
        const int last_row = stop + {{ job.b - 2 }};
        __global const source_t *from[{{ steps }}], *ahead[{{ steps }}];
        for (int j = 0; j < {{ steps }}; j++) {
            const long place = places[min(b + j, last_row)];
            from[j] = place < 0 ? outside : source + place;
            const int row = b + j + {{ steps }}, behind = row - last_row - 1;
            ahead[j] = behind < 0 ? source + max(places[row], 0L) : next + max(places[min(start + behind, last_row)], 0L);
        }
        // Of these rows, those that have all that they need, and are wanted.
        const int low = max(start + {{ job.b - 1 }} - b, 0), high = min({{ steps }}, stop + {{ job.b - 1 }} - b);
        __global target_t *to = target + (b - {{ job.b - 1 }}) * target_b;
        const int turn = (b - start) / {{ steps }};
{% for wait in job.waits %}
        __local sum_t *wait{{ wait.length }} = ring + {{ wait.place * width }}{{ " + turn %% %d * %d" % (wait.turns, steps * width) if wait.turns > 1 }};
{% if wait.spare %}
        __local sum_t *next{{ wait.length }} = ring + {{ wait.place * width }} + (turn + 1) % {{ wait.turns }} * {{ steps * width }};
{% endif %}
{% endfor %}
        for (int begin = 0; begin < tile; begin += {{ span }}) {
{% if job.x == 1 %}
            sums_t done[{{ job.vectors }}][{{ steps }}];
{% endif %}
{% for v in range(job.vectors) %}
            {
            const int column = (begin + {{ v * width }}) * {{ job.ring_rows }}, x = WITHIN(begin, tile - {{ span }}) + {{ v * width }};
{% for j in range(steps) %}
            const sums_t sum1_{{ j }} = LOAD(from[{{ j }}] + x);
{% if job.b > 1 %}
            PREFETCH(ahead[{{ j }}] + x, 2);
{% endif %}
{% endfor %}
{% for wait in job.waits %}
{{ delayed(wait) | indent(12, true) }}
{% for j in range(steps) %}
            const sums_t sum{{ wait.length + wait.rows }}_{{ j }} = {{ "earlier%d_%d" % (wait.length, j) if j < wait.rows else "sum%d_%d" % (wait.length, j - wait.rows) }} + sum{{ wait.rows }}_{{ j }};
{% endfor %}
{% endfor %}
{% for j in range(steps) %}
{% set sums = "(sum%d_%d + 0) * scale_b" % (job.b, j) if job.b > 1 else "sum1_%d" % j %}
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
{% for length in job.lines[1:] %}
            __local sum_t *line{{ length }} = lines + {{ steps + loop.index0 }} * line_pitch;
            for (int x = 0; x <= ends_before + width_read + ends_after - {{ length }}; x += {{ width }})
                PUT(line{{ length }} + x, {{ job.along_x(length) }});
{% endfor %}
            __global target_t *row = to + j * target_b;
{% if job.is_streamed %}
            // Whole lines of the cache go past it; one that the row begins is held for the next, where that follows.
            const bool is_begun = target_b == width && b + j > start + {{ job.b - 1 }};
            const bool goes_on = target_b == width && b + j + 1 < stop + {{ job.b - 1 }};
            int x = -(ulong)row % ({{ span }} * sizeof(target_t)) / sizeof(target_t);
            if (x > 0) {
                x -= {{ span }};
{{ sums_of_row() | indent(16, true) }}
                if (is_begun) {
{% for v in range(job.vectors) %}
                    held{{ v }} = select(sum{{ v }}, held{{ v }}, LANES + {{ v * width }} < -x);
                    STORE_STREAMED(row + x + {{ v * width }}, held{{ v }});
{% endfor %}
                } else {
{{ store_part("-x", span) | indent(20, true) }}
                }
                x += {{ span }};
            }
            for (; x <= width - {{ span }}; x += {{ span }}) {
{{ sums_of_row() | indent(16, true) }}
{% for v in range(job.vectors) %}
                STORE_STREAMED(row + x + {{ v * width }}, sum{{ v }});
{% endfor %}
            }
            if (x < width) {
{{ sums_of_row() | indent(16, true) }}
                if (goes_on) {
{% for v in range(job.vectors) %}
                    held{{ v }} = sum{{ v }};
{% endfor %}
                } else {
{{ store_part(0, "width - x") | indent(20, true) }}
                }
            }
{% else %}
            for (int next = 0; next < width; next += {{ span }}) {
                const int x = WITHIN(next, width - {{ span }});
{{ sums_of_row() | indent(16, true) }}
{% for v in range(job.vectors) %}
                STORE(row + x + {{ v * width }}, sum{{ v }});
{% endfor %}
            }
{% endif %}
        }
{% else %}
        STORE_GATHERED(to + low * target_b, target_b, high - low, tile);
{% endif %}
    }
}
