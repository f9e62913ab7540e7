export type Json =
  | string
  | number
  | boolean
  | null
  | { [key: string]: Json | undefined }
  | Json[]

export type Database = {
  public: {
    Tables: {
      agent_learnings: {
        Row: {
          category: string | null
          confidence: number | null
          created_at: string | null
          event_id: string | null
          handled_at: string | null
          handled_how: string | null
          id: string
          kind: string | null
          learning: string
          metadata: Json | null
          queue: string | null
          queued_at: string | null
          raw_body: string | null
          source: string | null
          sweep_at: string | null
          tags: string[] | null
          updated_at: string | null
          visibility: string | null
        }
        Insert: {
          category?: string | null
          confidence?: number | null
          created_at?: string | null
          event_id?: string | null
          handled_at?: string | null
          handled_how?: string | null
          id?: string
          kind?: string | null
          learning: string
          metadata?: Json | null
          queue?: string | null
          queued_at?: string | null
          raw_body?: string | null
          source?: string | null
          sweep_at?: string | null
          tags?: string[] | null
          updated_at?: string | null
          visibility?: string | null
        }
        Update: {
          category?: string | null
          confidence?: number | null
          created_at?: string | null
          event_id?: string | null
          handled_at?: string | null
          handled_how?: string | null
          id?: string
          kind?: string | null
          learning?: string
          metadata?: Json | null
          queue?: string | null
          queued_at?: string | null
          raw_body?: string | null
          source?: string | null
          sweep_at?: string | null
          tags?: string[] | null
          updated_at?: string | null
          visibility?: string | null
        }
        Relationships: []
      }
      jobs: {
        Row: {
          attempts: number
          awaits_handling: boolean
          claims: number
          created_at: string
          delivered_at: string | null
          fenced: boolean
          finished_at: string | null
          id: string
          lapses: number
          last_error: string | null
          learning_id: string | null
          lease_until: string | null
          locked_at: string | null
          locked_by: string | null
          max_attempts: number
          outcome: Json | null
          payload: Json | null
          queue: string
          replay: boolean
          run_at: string
          status: string
          type: string
          updated_at: string
        }
        Insert: {
          attempts?: number
          awaits_handling?: boolean
          claims?: number
          created_at?: string
          delivered_at?: string | null
          fenced?: boolean
          finished_at?: string | null
          id?: string
          lapses?: number
          last_error?: string | null
          learning_id?: string | null
          lease_until?: string | null
          locked_at?: string | null
          locked_by?: string | null
          max_attempts?: number
          outcome?: Json | null
          payload?: Json | null
          queue?: string
          replay?: boolean
          run_at?: string
          status?: string
          type: string
          updated_at?: string
        }
        Update: {
          attempts?: number
          awaits_handling?: boolean
          claims?: number
          created_at?: string
          delivered_at?: string | null
          fenced?: boolean
          finished_at?: string | null
          id?: string
          lapses?: number
          last_error?: string | null
          learning_id?: string | null
          lease_until?: string | null
          locked_at?: string | null
          locked_by?: string | null
          max_attempts?: number
          outcome?: Json | null
          payload?: Json | null
          queue?: string
          replay?: boolean
          run_at?: string
          status?: string
          type?: string
          updated_at?: string
        }
        Relationships: []
      }
    }
    Views: {
      [_ in never]: never
    }
    Functions: {
      claim_next_job: {
        Args: { p_worker_id: string }
        Returns: {
          attempts: number
          awaits_handling: boolean
          claims: number
          created_at: string
          delivered_at: string | null
          fenced: boolean
          finished_at: string | null
          id: string
          lapses: number
          last_error: string | null
          learning_id: string | null
          lease_until: string | null
          locked_at: string | null
          locked_by: string | null
          max_attempts: number
          outcome: Json | null
          payload: Json | null
          queue: string
          replay: boolean
          run_at: string
          status: string
          type: string
          updated_at: string
        }[]
        SetofOptions: {
          from: "*"
          to: "jobs"
          isOneToOne: false
          isSetofReturn: true
        }
      }
      complete_job: {
        Args: { p_job_id: string; p_last_error?: string; p_status: string }
        Returns: undefined
      }
    }
    Enums: {
      [_ in never]: never
    }
    CompositeTypes: {
      [_ in never]: never
    }
  }
}
