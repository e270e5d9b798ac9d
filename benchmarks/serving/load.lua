-- Requests from a file of bodies, one a line. With a rate, they are sent at fixed times, whatever
-- the answers take: an open loop, as long as a connection is free.
local ffi = require("ffi")
ffi.cdef[[ typedef struct { long seconds; long nanoseconds; } clock;
           int clock_gettime(int, clock*); ]]
local now = ffi.new("clock")
local function milliseconds()
  ffi.C.clock_gettime(1, now)
  return tonumber(now.seconds) * 1e3 + tonumber(now.nanoseconds) / 1e6
end

local threads = {}
function setup(thread)
  table.insert(threads, thread)
end

local bodies, at, interval, due = {}, 0, 0, 0
answered, refused, other = 0, 0, 0

function init(arguments)
  for line in io.lines(arguments[1]) do
    bodies[#bodies + 1] = wrk.format("POST", nil, { ["Content-Type"] = "application/json" }, line)
  end
  interval = arguments[2] and 1e3 / tonumber(arguments[2]) or 0
  due = milliseconds()
  if interval > 0 then
    function delay()
      due = due + interval
      return math.max(0, due - milliseconds())
    end
  end
end

function request()
  at = at % #bodies + 1
  return bodies[at]
end

function response(status)
  if status == 200 then answered = answered + 1
  elseif status == 429 then refused = refused + 1
  else other = other + 1 end
end

function done(summary, latency)
  local counts = { answered = 0, refused = 0, other = 0 }
  for _, thread in ipairs(threads) do
    for name in pairs(counts) do counts[name] = counts[name] + thread:get(name) end
  end
  local errors = summary.errors
  io.write(string.format(
    '\n{"seconds":%f,"answered":%d,"refused":%d,"other":%d,"lost":%d,"p50":%f,"p99":%f}\n',
    summary.duration / 1e6, counts.answered, counts.refused, counts.other,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
