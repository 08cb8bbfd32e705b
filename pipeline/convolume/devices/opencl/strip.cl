// One stencil: a work item owns {{ job.rows }} rows along y and all of x, and walks along all other axes, computing
// {{ job.vectors }} x {{ job.vector_width }} voxels of each row at a time. A loaded vector serves every row that needs it; zero weights do not appear.
// What lies beyond a face is a place in a list, so nothing is copied to be padded but the ends of rows.
{% include "common.cl" %}

// Outputs begin to stop along x. Of the columns that they read, low to high stand side by side in the source; where others
// do not, lines are filled. Column i is `shift` before or behind the place i of a line.
typedef struct { int begin, stop, low, high, shift, is_filled; } part_t;

#define FILL(i) line[i] = columns[i] < 0 ? outside : row[columns[i]]
inline void fill(__global source_t *line, __global const source_t *row, __global const long *columns,
                 __global const part_t *part, source_t outside) {
    for (int i = part->begin; i < part->low; i++)
        FILL(i);
    for (int next = part->low; next < part->high; next += {{ job.vector_width }}) {
        const int i = min(next, part->high - {{ job.vector_width }});
        COPY(row + columns[i], line + i);
    }
    for (int i = part->high; i < part->stop + {{ job.weights_a_line - 1 }}; i++)
        FILL(i);
}

__attribute__((reqd_work_group_size(1, 1, 1)))
__kernel void correlate(__global const source_t *restrict source, __global target_t *restrict target,
                        __global const sum_t *restrict weights, __global const long *restrict places,
                        __global const part_t *restrict parts, __global const source_t *restrict constants,
                        int part_count, int depth, int height, int width_read, long target_pitch, int scratch_pitch,
                        int line_pitch, __global source_t *scratch) {
    // Last rows and last vectors are shifted back over their neighbours: the same voxels again, to the same bits.
    const int y = min((int)get_global_id(0) * {{ job.rows }}, height - {{ job.rows }});
    const int start = (long)depth * get_global_id(1) / get_global_size(1);
    const int stop = (long)depth * (get_global_id(1) + 1) / get_global_size(1);
    __global const long *rows = places + (long)depth * {{ job.planes }} + y;
    __global const long *columns = rows - y + height + {{ job.lines - 1 }};
    __global const long *targets = columns + width_read;
    // For each plane, lines that hold the ends of rows.
    __global source_t *ends = scratch + (get_global_id(1) * get_global_size(0) + get_global_id(0)) * scratch_pitch;
    long held[{{ job.planes }}];
    for (int plane = 0; plane < {{ job.planes }}; plane++)
        held[plane] = -1;
    __global const source_t *lines[{{ job.planes * job.lines_read }}];

    for (int step = start; step < stop; step++) {
        __global const long *planes = places + (long)step * {{ job.planes }};
        __global target_t *to = target + targets[step] + y * target_pitch;
        __global const source_t *ahead = source + planes[{{ job.planes - 1 }} + (step + 1 < stop ? {{ job.planes }} : 0)];
        for (int plane = 0; plane < {{ job.planes }}; plane++) {
            // Most planes were met in the step before, one place further: their ends stand where they stood.
            const int slot = (plane + step) % {{ job.planes }};
            if (held[slot] == planes[plane])
                continue;
            held[slot] = planes[plane];
            for (int i = 0; i < {{ job.lines_read }}; i++)
                for (int p = 0; p < part_count; p++)
                    if (parts[p].is_filled && planes[plane] >= 0 && rows[i] >= 0)
                        fill(ends + (slot * {{ job.lines_read }} + i) * line_pitch + parts[p].shift,
                             source + planes[plane] + rows[i], columns, parts + p, constants[0]);
        }
        for (int p = 0; p < part_count; p++) {
            const part_t part = parts[p];
            for (int plane = 0; plane < {{ job.planes }}; plane++) {
                const int slot = (plane + step) % {{ job.planes }};
                __global const source_t *end = ends + slot * {{ job.lines_read }} * line_pitch;
                for (int i = 0; i < {{ job.lines_read }}; i++) {
                    __global const source_t *line = part.is_filled ? end + i * line_pitch : source + planes[plane] + rows[i];
                    lines[plane * {{ job.lines_read }} + i] = planes[plane] < 0 || rows[i] < 0 ? constants : line + part.shift;
                }
            }
            for (int next = part.begin; next < part.stop; next += {{ job.span }}) {
                const int x = min(next, part.stop - {{ job.span }});
{% for i in range(job.lines_read) %}
                PREFETCH(ahead + rows[{{ i }}] + x);
{% endfor %}
{% for row in range(job.rows) %}
                sums_t {% for v in range(job.vectors) %}sum{{ row }}_{{ v }} = 0{{ ";" if loop.last else ", " }}{% endfor %}

{% endfor %}
{% for run in job.runs %}

                // Planes {{ run.first }} to {{ run.stop - 1 }} of the stencil
                for (int plane = {{ run.first }}; plane < {{ run.stop }}; plane++) {
                    __global const source_t *const *line = lines + plane * {{ job.lines_read }};
                    __global const sum_t *weight = weights + plane * {{ job.lines * job.weights_a_line }};
{% for columns in run.lines(job.rows) %}
{% set y = loop.index0 %}
{% for column in columns %}
                    {
{% for v in range(job.vectors) %}
                        const sums_t part{{ v }} = LOAD(line[{{ y }}] + x + {{ column.x + v * job.vector_width }});
{% endfor %}
{% for row, line in column.uses %}
{% for v in range(job.vectors) %}
                        sum{{ row }}_{{ v }} += part{{ v }} * weight[{{ line * job.weights_a_line + column.x }}];
{% endfor %}
{% endfor %}
                    }
{% endfor %}
{% endfor %}
                }
{% endfor %}

{% for row in range(job.rows) %}
{% for v in range(job.vectors) %}
                STORE_LAST(to + {{ row }} * target_pitch + x + {{ v * job.vector_width }}, sum{{ row }}_{{ v }});
{% endfor %}
{% endfor %}
            }
        }
    }
}
