// A merchant's app in Node: who may come in, what holds while PHANTOM is away, and events.
//
//   SHIELD_URL=http://127.0.0.1:8081 SHIELD_KEY=phs_… WEBHOOK_SECRET=whsec_… PORT=3000 node app.mjs
//
// SHIELD_URL is the server, or `phantom edge` beside this app.

import { createHmac, timingSafeEqual } from 'node:crypto'
import { createServer } from 'node:http'

const { SHIELD_URL, SHIELD_KEY, WEBHOOK_SECRET, PORT = '3000' } = process.env
const missing = ['SHIELD_URL', 'SHIELD_KEY', 'WEBHOOK_SECRET'].filter((name) => !process.env[name])
if (missing.length > 0) {
  console.error(`Please set ${missing.join(', ')}. POST /api/endpoints answers with the secret.`)
  process.exit(1)
}
const known = new Map() // what PHANTOM said last of each customer

async function mayUse(customer) {
  try {
    const answer = await fetch(`${SHIELD_URL}/api/shield/customers/${encodeURIComponent(customer)}`, {
      headers: { Authorization: `Bearer ${SHIELD_KEY}` },
      signal: AbortSignal.timeout(500),
    })
    if (!answer.ok) throw new Error(`PHANTOM has answered ${answer.status}`)
    const { access } = await answer.json()
    known.set(customer, access)
    return access
  } catch (error) {
    console.error(`access: ${error.message}`)
    return known.get(customer) ?? true // a fault of ours locks nobody out
  }
}

// The library "standardwebhooks" does the same.
function isGenuine(headers, body) {
  const at = Number(headers['webhook-timestamp'])
  if (!(Math.abs(Date.now() / 1000 - at) < 300)) return false
  const want = createHmac('sha256', Buffer.from(WEBHOOK_SECRET.replace('whsec_', ''), 'base64'))
    .update(`${headers['webhook-id']}.${headers['webhook-timestamp']}.`).update(body).digest()
  return (headers['webhook-signature'] ?? '').split(' ').some((signature) => {
    const [version, value] = signature.split(',')
    const given = Buffer.from(value ?? '', 'base64')
    return version === 'v1' && given.length === want.length && timingSafeEqual(given, want)
  })
}

createServer(async (request, response) => {
  if (request.method === 'POST' && request.url === '/hooks') {
    const chunks = []
    for await (const chunk of request) chunks.push(chunk)
    const body = Buffer.concat(chunks) // as it came: the signature is over these bytes
    if (!isGenuine(request.headers, body)) return response.writeHead(400).end()
    const { type, data } = JSON.parse(body)
    console.log(`event ${type} ${data.customer ?? ''}`)
    if (type === 'access.changed') await mayUse(data.customer)
    return response.writeHead(204).end()
  }
  // Your session says who this is. A header that a visitor can set does not.
  const customer = request.headers['x-customer']
  if (!customer) return response.writeHead(401).end('Please sign in.\n')
  if (!(await mayUse(customer))) return response.writeHead(402).end('Please look at your billing page.\n')
  response.end('Welcome.\n')
}).listen(Number(PORT), '127.0.0.1')
