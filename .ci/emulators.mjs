// Starts the emulators, runs the command that the arguments name, and stops them with it. Their
// account at Twilio is the one that the tests of packages recovery and message use: the emulator's
// own has a token of 22 letters, which is not of Twilio's form.
import { spawn } from 'node:child_process'
import { createEmulator } from 'emulate'

const twilio = {
  account: { sid: 'AC0123456789abcdef0123456789abcdef', auth_token: 'canaryToken7Zq3vT7wcanaryToken7Z' },
  phone_numbers: [{ phone_number: '+14155559999' }],
}
const start = (service) => createEmulator({ service, hostname: '127.0.0.1', port: 0, seed: { twilio } })
const emulators = await Promise.all(['resend', 'twilio'].map(start))
const [PHANTOM_EMULATE_RESEND, PHANTOM_EMULATE_TWILIO] = emulators.map(({ url }) => `http://127.0.0.1:${new URL(url).port}`)

const [name, ...rest] = process.argv.slice(2)
const command = spawn(name, rest, { stdio: 'inherit', env: { ...process.env, PHANTOM_EMULATE_RESEND, PHANTOM_EMULATE_TWILIO } })
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => command.kill(signal))
command.on('error', (error) => console.error(error.message))
command.on('close', async (code) => {
  await Promise.all(emulators.map((emulator) => emulator.close()))
  process.exit(code > 0 ? code : code === 0 ? 0 : 1)
})
