// One stencil: a work item owns a slab of rows, neighbours along the stencil's last axis but x, and walks along the axes before.
// It computes {{ job.rows }} rows x {{ job.vectors }} vectors of {{ job.vector_width }} voxels at a time. The lines that it meets are copied into a ring in local memory,
// as the numbers that are summed: there they lie side by side wherever the source has them, and their ends are filled
// once, from a list of places. A loaded vector serves every row that needs it; zero weights do not appear.
{% include "common.cl" %}
{% if job.loose_pointers %}
typedef sums_t __attribute__((aligned(sizeof(sum_t)))) loose_sums_t;
#define LOAD_LOCAL(place) *(__local const loose_sums_t *)(place)
#define STORE_LOCAL(place, sums) *(__local loose_sums_t *)(place) = sums
{% else %}
#define LOAD_LOCAL(place) vload{{ job.vector_width }}(0, place)
#define STORE_LOCAL(place, sums) vstore{{ job.vector_width }}(sums, 0, place)
{% endif %}

// Outputs x to stop. Of the columns that they read, low to high stand side by side in the source, `shift` from their number.
typedef struct { int x, stop, low, high, shift; } tile_t;

// Without a line all is outside.
#define FILL(i) copy[i - tile.x] = !line || columns[i] < 0 ? outside : (sum_t)line[columns[i]]
inline void fill(__local sum_t *copy, __global const source_t *line, __global const long *columns, tile_t tile,
                 sum_t outside) {
    const int high = line ? tile.high : tile.low;
    for (int i = tile.x; i < tile.low; i++)
        FILL(i);
    const int last = high - {{ job.vector_width }};
    for (int i = tile.low; i < last; i += {{ job.vector_width }})
        STORE_LOCAL(copy + i - tile.x, LOAD(line + tile.shift + i));
    if (last >= tile.low)
        STORE_LOCAL(copy + last - tile.x, LOAD(line + tile.shift + last));
    for (int i = high; i < tile.stop + {{ job.line_weights - 1 }}; i++)
        FILL(i);
}

__attribute__((reqd_work_group_size(1, 1, 1)))
__kernel void correlate(__global const source_t *restrict source, __global target_t *restrict target,
                        __global const sum_t *restrict weights, __global const long *restrict places,
                        __global const tile_t *restrict tiles, int steps, int slabs_an_item, int slab_rows, int height,
                        int pitch, sum_t outside, long target_pitch, int has_whole_rows, __local sum_t *room,
                        __local target_t *gathered) {
    const int first_row = get_global_id(0) * slabs_an_item * slab_rows;
    const int first_step = (long)steps * get_global_id(1) / get_global_size(1);
    const int last_step = (long)steps * (get_global_id(1) + 1) / get_global_size(1);
    const tile_t tile = tiles[get_global_id(2)];
    const int width = tile.stop - tile.x;
    const bool are_gathered = ARE_GATHERED;
    __global const long *targets = places + (long)steps * {{ job.lines }}, *planes = targets + steps;
    __global const long *columns = planes + height + {{ job.planes - job.rows }};
    // Each line of the stencil: where its planes are in the ring, and which line of the source they hold.
    __local sum_t *ring[{{ job.lines }}];
    for (int line = 0; line < {{ job.lines }}; line++)
        ring[line] = room + {{ job.lead }} + line * (slab_rows + {{ job.planes - job.rows }}) * pitch;
{% if job.lines > 1 %}
    long held[{{ job.lines }}];
    for (int line = 0; line < {{ job.lines }}; line++)
        held[line] = LONG_MIN;
{% endif %}

    for (int step = first_step; step < last_step; step++)
    for (int next_slab = first_row; next_slab < min(first_row + slabs_an_item * slab_rows, height); next_slab += slab_rows) {
        const int slab = min(next_slab, height - {{ job.rows }}), stop = min(next_slab + slab_rows, height);
        __global const long *lines = places + (long)step * {{ job.lines }};
{% if job.lines > 1 %}
        // A step meets the lines of the one before again, one place further.
        __local sum_t *oldest = ring[0];
        for (int line = 0; line < {{ job.lines - 1 }}; line++) {
            ring[line] = ring[line + 1];
            held[line] = held[line + 1];
        }
        ring[{{ job.lines - 1 }}] = oldest;
        held[{{ job.lines - 1 }}] = LONG_MIN;
{% endif %}
        for (int line = 0; line < {{ job.lines }}; line++) {
{% if job.lines > 1 %}
            if (held[line] == lines[line])
                continue;
            held[line] = lines[line];
{% endif %}
            for (int plane = slab; plane < stop + {{ job.planes - job.rows }}; plane++) {
                const bool is_outside = planes[plane] < 0 || lines[line] < 0;
                fill(ring[line] + (plane - slab) * pitch, is_outside ? 0 : source + planes[plane] + lines[line], columns,
                     tile, outside);
            }
        }
        // What is copied next but one is on its way meanwhile.
{% if job.lines > 1 %}
        const long ahead = lines[min(last_step - 1 - step, {{ job.steps_ahead }}) * {{ job.lines }} + {{ job.lines - 1 }}] + tile.shift;
{% else %}
        const long ahead = lines[0] + tile.shift;
{% endif %}
        for (int next_row = slab; next_row < stop; next_row += {{ job.rows }}) {
            // The last rows and the last span are shifted back over their neighbours: the same voxels again, to the same bits.
            const int row = min(next_row, stop - {{ job.rows }});
            __global target_t *to = target + targets[step] + row * target_pitch;
            __global const long *planes_ahead = planes + {{ "row" if job.lines > 1 else "min(row + %d, height - %d)" % (job.steps_ahead * job.rows, job.rows) }};
            for (int next = tile.x; next < tile.stop; next += {{ job.span }}) {
                const int x = WITHIN(next - tile.x, tile.stop - {{ job.span }} - tile.x) + tile.x;
{% for row in range(job.rows) %}
                sums_t {% for v in range(job.vectors) %}sum{{ row }}_{{ v }} = 0{{ ";" if loop.last else ", " }}{% endfor %}

{% endfor %}
{% for run in job.runs %}
{% if run.stop - run.first > 1 %}
#pragma unroll 1
{% endif %}
                for (int line = {{ run.first }}; line < {{ run.stop }}; line++) {
                    __global const sum_t *weight = weights + line * {{ job.line_weights }};
                    __local const sum_t *begin = ring[line] + (row - slab) * pitch + x - tile.x;
{% for plane, columns in run.planes %}
{% for column in columns %}
                    {
{% for v in range(job.vectors) %}
                        const sums_t part{{ v }} = LOAD_LOCAL(begin + {{ plane }} * pitch + {{ column.x + v * job.vector_width }});
{% endfor %}
{% for row, place in column.uses %}
{% for v in range(job.vectors) %}
                        sum{{ row }}_{{ v }} += part{{ v }} * weight[{{ place * job.plane_weights + column.x }}];
{% endfor %}
{% endfor %}
                    }
{% endfor %}
{% endfor %}
                }
{% endfor %}
{% for plane in range(job.planes) %}
{% for i in range(0, job.span, job.cache_line_voxels) %}
                PREFETCH(source + planes_ahead[{{ plane }}] + ahead + x + {{ i }}, {{ job.cache_level }});
{% endfor %}
{% endfor %}

{% for row in range(job.rows) %}
{% for v in range(job.vectors) %}
                STORE_LAST(to + {{ row }} * target_pitch + x + {{ v * job.vector_width }}, gathered + {{ row }} * width + x - tile.x + {{ v * job.vector_width }}, sum{{ row }}_{{ v }});
{% endfor %}
{% endfor %}
            }
            STORE_GATHERED(to + tile.x, target_pitch, {{ job.rows }}, width);
        }
    }
}
